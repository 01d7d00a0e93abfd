"""What must hold, judged from what clients see; a look into the pools is extra evidence where a target offers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sim.evidence import Said, Stay, overheard, wrong_calls, wrong_in_room

if TYPE_CHECKING:
    from sim.client import Client
    from sim.lab import Lab


class Violation(AssertionError):
    """An invariant does not hold: which, on what evidence, at which time of the lab."""

    def __init__(self, invariant: str, evidence: str, at: float) -> None:
        super().__init__(f"{invariant}: {evidence} (at {at:.4f} s)")
        self.invariant = invariant
        self.evidence = evidence
        self.at = at


class Checks:
    """The invariants of one run, and how often each was evaluated."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.evaluated: Counter[str] = Counter()

    def hold(self, invariant: str, true: object, evidence: str | Callable[[], str]) -> None:
        """Raises ``Violation`` unless ``true``."""
        self.evaluated[invariant] += 1
        if not true:
            text = evidence if isinstance(evidence, str) else evidence()
            raise Violation(invariant, text, self._lab.now)

    async def becomes(
        self,
        invariant: str,
        true: Callable[[], object],
        evidence: Callable[[], str],
        *,
        within: float,
        after_faults: bool = False,
    ) -> None:
        """Waits for it; raises ``Violation`` after ``within`` seconds. ``after_faults``: they are counted anew
        from each fault that comes meanwhile, and from the end of each stall."""
        asked = self._lab.now

        def over() -> bool:
            since = max(asked, self._lab.healed_at) if after_faults else asked
            return self._lab.now >= since + self._lab.bound(within)

        while not true() and not over():
            await self._lab.sleep(0.01)
        self.hold(invariant, true(), lambda: f"{evidence()}, {within:g} s after healing")

    async def everyone_sees(
        self,
        watchers: Iterable[Client],
        users: set[str] | Callable[[], set[str]],
        *,
        within: float = 10.0,
    ) -> None:
        """Presence converges: each of these clients holds exactly this list. ``users`` may be called for who is
        online at that moment, where a fault decides."""
        watching = list(watchers)

        def truth() -> set[str]:
            return users() if callable(users) else users

        def right() -> bool:
            return all(self.online(watcher) == truth() for watcher in watching)

        def evidence() -> str:
            wrong = [w for w in watching if self.online(w) != truth()]
            return "; ".join(
                f"{w.name} holds {sorted(self.online(w) or ())}, online are {sorted(truth())}" for w in wrong
            )

        await self.becomes("presence-converges", right, evidence, within=within, after_faults=True)

    def online(self, client: Client) -> set[str] | None:
        """The list a client holds: its last ``user-list``; None before the first."""
        seen = self._lab.history.last(client.name, "user-list")
        return None if not isinstance(seen, dict) else set(seen.get("user_ids", ()))

    def models(self, client: Client) -> set[str]:
        """The models in use as the client last heard."""
        seen = self._lab.history.last(client.name, "usage")
        return set(seen.get("models", ())) if isinstance(seen, dict) else set()

    async def models_become(self, watchers: Iterable[Client], models: set[str], *, within: float) -> None:
        """Each of these clients comes to hold exactly these models as in use."""
        watching = list(watchers)
        await self.becomes(
            "usage-converges",
            lambda: all(self.models(watcher) == models for watcher in watching),
            lambda: f"{[(w.name, sorted(self.models(w))) for w in watching]}, in use are {sorted(models)}",
            within=within,
        )

    async def asked_list(self, client: Client, *, within: float = 3.0) -> set[str]:
        """The list as the server answers it to this client now: what a page would show after a click."""
        before = len(list(self._lab.history.of(client.name, "event", "user-list")))
        await self._lab.emit(client, "user-list", {})
        await self.becomes(
            "asked-list-arrives",
            lambda: len(list(self._lab.history.of(client.name, "event", "user-list"))) > before,
            lambda: f"{client.name} asked for the list in vain",
            within=within,
        )
        return self.online(client) or set()

    def heard(self, client: Client, event: str, true: Callable[[Any], object] = lambda _data: True) -> int:
        """How many events of a name the client saw."""
        return sum(bool(true(entry.data)) for entry in self._lab.history.of(client.name, "event", event))

    def count(self, who: str, event: str) -> int:
        """How many events of a name a client saw, by the client's name."""
        return sum(1 for _entry in self._lab.history.of(who, "event", event))

    async def reaches_once(
        self, sender: Client, receivers: Iterable[Client], mark: str, *, within: float = 5.0
    ) -> None:
        """A channel message sent now reaches each of these clients, exactly once."""
        waiting = list(receivers)
        payload = {"channel_id": "general", "data": {"type": "typing", "mark": mark}}

        def count(client: Client) -> int:
            return self.heard(
                client, "channel-events", lambda d: isinstance(d, dict) and d["data"].get("mark") == mark
            )

        ack = await self._lab.call(sender, "channel-events", payload)
        self.hold(
            "member-may-speak",
            not (isinstance(ack, dict) and "error" in ack),
            lambda: f"{sender.name} was told {ack}",
        )
        await self.becomes(
            "message-reaches-members",
            lambda: all(count(client) >= 1 for client in waiting),
            lambda: f"{[c.name for c in waiting if not count(c)]} did not get {mark}",
            within=within,
        )
        for client in waiting:
            times = count(client)
            self.hold("exactly-once", times == 1, f"{client.name} got {mark} {times} times")

    def nothing_leaks(self, outsiders: Iterable[str], *, event: str = "", since: float = 0.0) -> None:
        """Nothing reached these clients, who are not members or not signed in; see ``sim.evidence.overheard``."""
        heard = overheard(self._lab.history.entries, set(outsiders), event=event, since=since)
        self.hold("nothing-reaches-outsiders", not heard, lambda: "; ".join(map(str, heard[:3])))

    def room_is_right(self, said: Iterable[Said], stays: Iterable[Stay], *, event: str) -> None:
        """Every member got every message once and in order, and nobody else got one; see ``sim.evidence``.

        After a fault messages may be lost, and still none comes twice, too late for its sender's next, or to others.
        """
        faulty = any(entry.what == "fault" for entry in self._lab.history.entries)
        wrong = wrong_in_room(self._lab.history.entries, said, stays, event=event, may_lose=faulty)
        self.hold("room-exactly-once-in-order", not wrong, lambda: "; ".join(wrong[:3]))

    def calls_end(self, answers: Mapping[str, Any], *, within: float) -> None:
        """Every event call so far ended with the session's own answer or a typed error, in time; see
        ``sim.evidence.wrong_calls``."""
        wrong = wrong_calls(
            self._lab.history.entries, answers, now=self._lab.now, within=self._lab.bound(within)
        )
        self.hold("calls-end-right", not wrong, lambda: "; ".join(wrong[:3]))
