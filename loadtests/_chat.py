"""What a chat user does: connect, sign in, type and use models now and then, listen, leave, come back."""

from __future__ import annotations

import random
from typing import Any

import gevent
import jwt
from locust import User, task
from locust.exception import StopUser

from loadtests import _clock
from loadtests._client import Client
from loadtests._errors import Disconnected, LoadError, Refused
from loadtests._http import Target
from loadtests._lab import Lab
from loadtests._ledger import Inbox, Stream

BACKOFF_SECONDS = (1.0, 5.0)
"""As Socket.IO clients wait by default before they come back: doubled each time, up to the second, by ± half."""
MAX_OVERDUE = 100
"""Typings that a user makes up for after a stall; what is beyond is counted as skipped."""


class ChatUser(User):
    """One user with one tab, in one greenlet. `transports` are chosen from at each connect."""

    abstract = True
    transports: tuple[str, ...] = ("websocket",)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._lab = Lab.current()
        number = next(self._lab.numbers)
        self._number = number
        self._user_id = f"load-{self._lab.source}-{number}"
        self._model = f"model-{number % 10}"
        self._targets = self._lab.options.targets
        self._target: Target = self._targets[number % len(self._targets)]
        self._transport = self.transports[0]
        self._failures = 0
        self._lost_at: float | None = None
        self._client: Client | None = None
        self._inbox: Inbox | None = None
        self._streams: dict[str, Stream] = {}
        self._listed = False

    def on_start(self) -> None:
        # Locust makes the users of a second all at once.
        gevent.sleep(random.random())

    @task
    def live(self) -> None:
        """One connection from its opening to its end, and the pause after it."""
        try:
            self._session()
            self._lab.idle += 1
            try:
                gevent.sleep(random.uniform(0.5, 1.5) * self._lab.options.idle_seconds)
            finally:
                self._lab.idle -= 1
        except Refused as error:
            self._lab.failed(error)
            self._lab.recorder.count("refused")
            raise StopUser from None
        except LoadError as error:
            self._lab.failed(error)
            gevent.sleep(self._backoff())

    def _session(self) -> None:
        options = self._lab.options
        self._transport = random.choice(self.transports)
        try:
            channels = self._connect()
            ready = _clock.now()
            self._inbox = self._lab.ledger.inbox(frozenset(channels), ready)
            self._failures = 0
            self._lab.connected += 1
            try:
                self._chat(ready, channels, ready + random.uniform(0.5, 1.5) * options.session_seconds)
            except LoadError:
                self._lost_at = _clock.now()
                self._lab.recorder.count("disconnects")
                raise
            finally:
                self._lab.connected -= 1
        finally:
            self._leave()

    def _connect(self) -> list[str]:
        """Connects and signs in; every step is measured. Returns the user's channels."""
        time, began = self._lab.recorder.time, _clock.now()
        token = jwt.encode({"id": self._user_id, "iat": began}, self._lab.options.secret, algorithm="HS256")
        handlers = {
            "user-list": self._on_list,
            "channel-events": self._on_channel_event,
            "chat-events": self._on_chat_event,
        }
        self._listed = False
        self._client = client = Client(self._target, self._transport, handlers)
        try:
            client.open()
            client.join({"token": token})
            joined = _clock.now()
            self._accepted(client.call("user-join", {"auth": {"token": token}}))
            client.pump_until(lambda: self._listed, "the first user-list")
            listed = _clock.now()
            answer = client.call("join-channels", {"auth": {"token": token}})
            self._accepted(answer)
        except LoadError as error:
            self._fire("connect", _clock.now() - began, error)
            raise
        steps = client.transport.steps
        time("http", steps.http - steps.began, self._transport)
        time("open", steps.opened - steps.http, self._transport)
        time("join", joined - steps.opened, self._transport)
        time("first list", listed - joined, self._transport)
        time("connect", listed - began, self._transport)
        self._lab.recorder.count("connects")
        if self._lost_at is not None:
            time("reconnect", listed - self._lost_at, self._transport)
            self._lost_at = None
        self._fire("connect", listed - began)
        return [str(channel) for channel in answer["channels"]]

    def _chat(self, ready: float, channels: list[str], end: float) -> None:
        options, client = self._lab.options, self._client
        assert client is not None
        # A phase of its own for everyone: users that were made at once must not act at once.
        typing = ready + random.random() * options.typing_every
        usage = ready + random.random() * options.usage_every
        while True:
            due = min(typing, usage, end)
            client.pump(due)
            if due == end:
                return
            if due == usage:
                self._call("usage", {"model": self._model}, due)
                usage += random.uniform(0.5, 1.5) * options.usage_every
                continue
            if channels:
                self._type(random.choice(channels), due)
            typing += random.uniform(0.5, 1.5) * options.typing_every
            overdue = (_clock.now() - typing) / options.typing_every
            if overdue > MAX_OVERDUE:
                self._lab.recorder.count("skipped", int(overdue - MAX_OVERDUE))
                typing = _clock.now() - MAX_OVERDUE * options.typing_every

    def _type(self, channel: str, due: float) -> None:
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = self._lab.ledger.stream(channel)
        sent = _clock.now()
        stamp = [stream.id, len(stream.sent) + 1, due, sent, self._target.url]
        event = {"channel_id": channel, "data": {"type": "typing", "typing": True, "load": stamp}}
        accepted = False
        try:
            accepted = self._call("channel-events", event, due)
        finally:
            if accepted:
                stream.sent.append(sent)
                self._lab.recorder.count("sent")
            else:
                self._lab.ledger.end(self._streams.pop(channel), _clock.now())

    def _call(self, event: str, data: dict[str, Any], due: float) -> bool:
        """Emits and waits for the ack, which is counted once; False if the server did not accept it."""
        client = self._client
        assert client is not None
        sent = _clock.now()
        try:
            answer = client.call(event, data)
            self._accepted(answer)
        except LoadError as error:
            self._fire(event, _clock.now() - sent, error)
            if isinstance(error, Disconnected):
                raise
            self._lab.failed(error)
            return False
        now = _clock.now()
        self._lab.recorder.time("ack", now - due, self._transport)
        self._lab.recorder.time("ack raw", now - sent, self._transport)
        self._lab.recorder.count("acks")
        self._fire(event, now - sent)
        return True

    def _accepted(self, answer: Any) -> None:
        error = answer.get("error") if isinstance(answer, dict) else None
        if error is None:
            return
        code, message = error.get("code"), error.get("message")
        if code == "unknown-user":
            raise Refused(
                f"{self._target.url}: the server does not know {self._user_id}: serve a demo, or let its directory"
                " know all users whose ids begin with load-"
            )
        if code in ("invalid-token", "token-expired", "token-revoked"):
            raise Refused(
                f"{self._target.url}: the server refused the token ({code}): set WEBUI_SECRET_KEY to the server's"
            )
        raise LoadError(f"{self._target.url}: the server refused an event ({code}): {message}")

    def _on_list(self, _arguments: list[Any]) -> None:
        self._listed = True
        # Later lists are not even parsed: they are long, and nothing is read from them.
        if self._client is not None:
            self._client.ignore("user-list")

    def _on_channel_event(self, arguments: list[Any]) -> None:
        now = _clock.now()
        try:
            stream_id, number, due, sent, origin = arguments[0]["data"]["load"]
        except (KeyError, TypeError, ValueError, IndexError):
            return  # another's message, not of this load
        record, inbox = self._lab.recorder, self._inbox
        record.count("delivered")
        record.time("fan-out", now - due, self._transport)
        record.time("fan-out raw", now - sent, self._transport)
        if len(self._targets) > 1:
            same = origin == self._target.url
            record.time("fan-out same" if same else "fan-out across", now - due, self._transport)
        if now - due > self._lab.options.late_after:
            record.count("late")
        if inbox is not None:
            inbox.take(stream_id, number)

    def _on_chat_event(self, arguments: list[Any]) -> Any:
        self._lab.recorder.count("chat events")
        return {"answer": self._user_id}

    def _leave(self) -> None:
        now = _clock.now()
        for stream in self._streams.values():
            self._lab.ledger.end(stream, now)
        self._streams = {}
        if self._inbox is not None:
            inbox, self._inbox = self._inbox, None
            # What was sent a moment ago may still be on its way: that is not lost.
            verdict = inbox.close(now - 2 * self._lab.options.late_after)
            for name, number in (
                ("lost", verdict.lost),
                ("duplicate", verdict.duplicate),
                ("out-of-order", verdict.out_of_order),
            ):
                if number:
                    self._lab.recorder.count(name, number)
        if self._client is not None:
            self._client.close()
            self._client = None

    def _backoff(self) -> float:
        first, most = BACKOFF_SECONDS
        wait: float = min(most, first * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.5)
        self._failures += 1
        others = [each for each in self._targets if each != self._target]
        if others:
            self._target = random.choice(others)
        return wait

    def _fire(self, name: str, seconds: float, error: LoadError | None = None) -> None:
        self.environment.events.request.fire(
            request_type=self._transport,
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=error,
            context={},
        )
