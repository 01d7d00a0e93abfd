"""Who should have heard what: lost, duplicate and out-of-order messages by their sequence numbers.

A sender numbers its messages from 1 in a *stream* of its own for each connection; after an error it begins another, for
nobody knows what became of that message. Whoever hears number 3 after number 1 misses number 2: out of order when it
still comes, lost when it does not. What a sender of the same process sent last and nobody heard is known from its own
books; of senders in other processes only gaps are.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import count

MAX_MISSING = 10_000
"""Numbers that one receiver holds open for one stream; beyond, they are lost."""


@dataclass(slots=True)
class Stream:
    """What one connection sent into one channel: `sent[n - 1]` is when message n was sent (and accepted)."""

    id: str
    channel: str
    sent: list[float] = field(default_factory=list)
    ended: float = float("inf")


@dataclass(slots=True)
class _Heard:
    """What a receiver knows of a stream."""

    first: int
    """What came before it was sent before the receiver was there: not owed, and not heard twice if it comes late."""
    next: int
    missing: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Verdict:
    """How many messages one receiver lost, heard twice, or heard late in the order."""

    lost: int = 0
    duplicate: int = 0
    out_of_order: int = 0


class Ledger:
    """The streams of this process's senders, and the receivers that are connected."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = count(1)
        self._streams: dict[str, Stream] = {}
        self._inboxes: set[Inbox] = set()

    def stream(self, channel: str) -> Stream:
        """A new stream: for each connection and channel, and after each message of unknown fate."""
        stream = Stream(f"{self._name}-{next(self._numbers)}", channel)
        self._streams[stream.id] = stream
        return stream

    def end(self, stream: Stream, at: float) -> None:
        """The sender is gone; the stream is kept while somebody is connected who should have heard it."""
        stream.ended = at

    def inbox(self, channels: frozenset[str], since: float) -> Inbox:
        """For a receiver that was in all of `channels` from the Unix time `since` on."""
        inbox = Inbox(self, channels, since)
        self._inboxes.add(inbox)
        return inbox

    def find(self, stream_id: str) -> Stream | None:
        return self._streams.get(stream_id)

    def streams(self) -> list[Stream]:
        return list(self._streams.values())

    def forget(self, inbox: Inbox) -> None:
        self._inboxes.discard(inbox)
        oldest = min((each.since for each in self._inboxes), default=float("inf"))
        self._streams = {key: each for key, each in self._streams.items() if each.ended >= oldest}


class Inbox:
    """What one connection has heard."""

    def __init__(self, ledger: Ledger, channels: frozenset[str], since: float) -> None:
        self.since = since
        self._ledger = ledger
        self._channels = channels
        self._heard: dict[str, _Heard] = {}
        self._verdict = Verdict()

    def take(self, stream_id: str, number: int) -> None:
        """A message arrived."""
        heard = self._heard.get(stream_id)
        if heard is None:
            first = min(number, self._first(stream_id, number))
            heard = self._heard[stream_id] = _Heard(first, first)
        if number == heard.next:
            heard.next += 1
        elif number > heard.next:
            first = max(heard.next, number - MAX_MISSING)
            self._verdict.lost += first - heard.next
            heard.missing.update(range(first, number))
            heard.next = number + 1
        elif number in heard.missing:
            heard.missing.remove(number)
            self._verdict.out_of_order += 1
        elif number < heard.first:
            self._verdict.out_of_order += 1
        else:
            self._verdict.duplicate += 1

    def close(self, before: float) -> Verdict:
        """The connection ends: what was sent until the Unix time `before` and is not here is lost."""
        verdict = self._verdict
        verdict.lost += sum(len(heard.missing) for heard in self._heard.values())
        for stream in self._ledger.streams():
            if stream.channel in self._channels:
                heard = self._heard.get(stream.id)
                following = heard.next if heard else bisect_right(stream.sent, self.since) + 1
                verdict.lost += max(0, bisect_right(stream.sent, before) - following + 1)
        self._ledger.forget(self)
        self._verdict, self._heard = Verdict(), {}
        return verdict

    def _first(self, stream_id: str, number: int) -> int:
        """The first number that was sent after this receiver was there, as far as this process knows."""
        stream = self._ledger.find(stream_id)
        return number if stream is None else bisect_right(stream.sent, self.since) + 1
