"""Calls to clients from other backend modules: emitters and event calls, on whatever instance a session is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from realtime.errors import CallTimeout, Forbidden, InvalidPayload, SessionGone, StateUnavailable
from realtime.ids import check_id
from realtime.locks import KeyedLocks
from realtime.messages import MessageStore
from realtime.messages.checking import checked_text, status_to_json
from realtime.payloads import check_plain
from realtime.replica import Difference
from realtime.state import Session, State
from realtime.tasks import Supervisor
from realtime.wire import WireManager

log = logging.getLogger(__name__)

Event = Mapping[str, Any]
EventEmitter = Callable[[Event], Awaitable[None]]
EventCall = Callable[[Event], Awaitable[Any]]

FIRST_LOOK_SECONDS = 0.25
LONGEST_LOOK_SECONDS = 2.0
"""How often a resuming call looks for another session of its user: soon at first, for a tab that reloads."""
RETRY_SECONDS = 0.5


class Emitters:
    """Makes the functions that other modules emit and call with."""

    def __init__(
        self,
        manager: WireManager,
        state: State,
        messages: MessageStore,
        tasks: Supervisor,
        *,
        call_timeout: float,
    ) -> None:
        self._manager = manager
        self._state = state
        self._messages = messages
        self._tasks = tasks
        self._call_timeout = call_timeout
        self._in_order: KeyedLocks[tuple[str, str]] = KeyedLocks()
        self._awaited: Counter[str] = Counter()
        """Sids that calls wait for, or are about to."""
        self.counts: Counter[str] = Counter()
        """How many calls timed out."""
        self._losses = 0
        """How often instances were lost, or such news may have been missed."""
        self._looking: asyncio.Task[None] | None = None

    def event_emitter(self, request_info: Mapping[str, Any], update_db: bool = True) -> EventEmitter:
        """Returns ``emit(event)``: ``chat-events {"chat_id", "message_id", "data": event}`` to every session of the
        user on all instances, each once. ``status``, ``message`` and ``replace`` events of a message are kept in the
        message store, in the order of the calls, unless ``update_db`` is false.

        ``request_info``: ``{"user_id", "chat_id"?, "message_id"?, "session_id"?}``. The session is one of the user's
        own and so reached with them; one of somebody else's is never. Raises ``InvalidPayload``, and so does ``emit``
        for an event that is not JSON or lacks what is to be kept. ``emit`` also raises ``MessageTooLarge``, then
        nobody got anything, and ``DirectoryUnavailable`` when the event was sent but could not be kept.
        """
        user_id = check_id(request_info.get("user_id"), what="user_id")
        chat_id, message_id = _optional_id(request_info, "chat_id"), _optional_id(request_info, "message_id")

        async def emit(event: Event) -> None:
            payload = _payload(chat_id, message_id, event)
            if chat_id is None or message_id is None:
                await self._emit(payload, user_id)
                return
            keep = self._keeping(chat_id, message_id, event) if update_db else None
            async with self._in_order((chat_id, message_id)):
                await self._emit(payload, user_id)
                if keep is not None:
                    await keep()

        return emit

    def event_call(self, request_info: Mapping[str, Any], *, resume: bool = False) -> EventCall:
        """Returns ``call(event)``: sends ``chat-events`` to the given session and returns its answer.

        ``request_info``: ``{"user_id", "session_id", "chat_id"?, "message_id"?}``. With ``resume`` a call whose
        session is gone goes on with another of the user's, or with the one that a reload brings, within the time.
        Raises ``SessionGone`` at once when the session is gone or becomes somebody else's, ``CallTimeout``,
        ``Forbidden`` when it already is somebody else's, ``StateUnavailable``.
        """
        user_id = check_id(request_info.get("user_id"), what="user_id")
        session_id = check_id(request_info.get("session_id"), what="session_id")
        chat_id, message_id = _optional_id(request_info, "chat_id"), _optional_id(request_info, "message_id")

        async def call(event: Event) -> Any:
            payload = _payload(chat_id, message_id, event)
            try:
                async with asyncio.timeout(self._call_timeout):
                    if resume:
                        return await self._call_any(session_id, user_id, payload)
                    return await self._call(session_id, user_id, payload)
            except TimeoutError:
                self.counts["timed out"] += 1
                raise CallTimeout from None

        return call

    def on_difference(self, difference: Difference) -> None:
        """Calls to sessions of an instance that was reaped end now, unless the sessions came back elsewhere."""
        if difference.reaped or difference.missed:
            self._losses += 1
            self._look_for_orphans()

    def _look_for_orphans(self) -> None:
        if self._awaited and (self._looking is None or self._looking.done()):
            self._looking = self._tasks.once("fail-calls", self._fail_orphans())

    async def _fail_orphans(self) -> None:
        looked = None
        while looked != self._losses and self._awaited:
            losses = self._losses
            try:
                leases = await self._state.leases()
                for sid in list(self._awaited):
                    session = await self._state.session(sid)
                    # What a lost lease owned is removed in batches: its session may still be there.
                    if session is None or session.lease not in leases:
                        self._manager.fail_calls(sid)
                looked = losses
            except StateUnavailable as error:
                log.warning("calls to sessions that may be gone still wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _call(self, sid: str, user_id: str, payload: dict[str, Any]) -> Any:
        losses = self._losses
        self._awaited[sid] += 1
        try:
            session = await self._state.session(sid)
            if session is None:
                raise SessionGone
            if session.user.id != user_id:
                raise Forbidden("the session belongs to another user")
            if self._losses != losses:
                # The look-up and the news crossed. Whoever looks now does so once the question waits for its answer.
                self._losses += 1
                self._look_for_orphans()
            with json_only():
                # Until the question reaches it, the session can become another user's.
                return await self._manager.call(
                    "chat-events", payload, sid=sid, timeout=self._call_timeout, member_of=f"user:{user_id}"
                )
        finally:
            self._awaited[sid] -= 1
            if not self._awaited[sid]:
                del self._awaited[sid]

    async def _call_any(self, session_id: str, user_id: str, payload: dict[str, Any]) -> Any:
        """The caller's time-out ends this."""
        asked: Counter[str] = Counter()
        tried: set[str] = set()
        sid: str | None = session_id
        pause = FIRST_LOOK_SECONDS
        while True:
            if sid is not None:
                asked[sid] += 1
                tried.add(sid)
                try:
                    return await self._call(sid, user_id, payload)
                except SessionGone:
                    pass
            others: list[Session] = [
                each for each in await self._state.sessions_of(user_id) if each.sid not in tried
            ]
            sid = others[-1].sid if others else None
            if sid is None:
                await asyncio.sleep(pause)
                pause = min(LONGEST_LOOK_SECONDS, 2 * pause)
                # One that was asked while it signed in was not yet in its user's room, and said that it is gone.
                tried = {each for each in tried if asked[each] > 1}

    async def _emit(self, payload: dict[str, Any], user_id: str) -> None:
        with json_only():
            await self._manager.emit("chat-events", payload, room=f"user:{user_id}")

    def _keeping(self, chat_id: str, message_id: str, event: Event) -> Callable[[], Awaitable[None]] | None:
        """What will keep the event, checked before anybody hears of it."""
        kind, data = event.get("type"), event.get("data")
        if kind not in ("status", "message", "replace"):
            return None
        if not isinstance(data, Mapping):
            raise InvalidPayload(f"data: a {kind} event carries an object")
        if kind == "status":
            status_to_json(data)
            return partial(self._messages.add_status, chat_id, message_id, data)
        content = data.get("content", "")
        if not isinstance(content, str):
            raise InvalidPayload("data.content: must be text")
        checked_text(content)
        keep = self._messages.append if kind == "message" else self._messages.replace
        return partial(keep, chat_id, message_id, content)


def _optional_id(request_info: Mapping[str, Any], name: str) -> str | None:
    value = request_info.get(name)
    return None if value is None else check_id(value, what=name)


def _payload(chat_id: str | None, message_id: str | None, event: Event) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise InvalidPayload("event: must be an object")
    check_plain(event, what="event")
    return {"chat_id": chat_id, "message_id": message_id, "data": dict(event)}


@contextmanager
def json_only() -> Iterator[None]:
    """Raises ``InvalidPayload`` where a payload turns out not to be JSON."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from error
