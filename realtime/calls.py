"""Calls to clients from other backend modules: emitters and event calls, on whatever instance a session is."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from realtime.errors import CallTimeout, Forbidden, InvalidPayload, SessionGone
from realtime.ids import check_id
from realtime.messages import MessageStore
from realtime.replica import Difference
from realtime.state import Session, State
from realtime.tasks import Supervisor
from realtime.wire import WireManager

Event = Mapping[str, Any]
EventEmitter = Callable[[Event], Awaitable[None]]
EventCall = Callable[[Event], Awaitable[Any]]

RELOAD_LOOK_SECONDS = 0.25


class KeyedLocks:
    """A first-come-first-served lock per key, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._users: defaultdict[tuple[str, str], int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def __call__(self, key: tuple[str, str]) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]


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
        self._in_order = KeyedLocks()
        self._awaited: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def event_emitter(self, request_info: Mapping[str, Any], update_db: bool = True) -> EventEmitter:
        """Returns ``emit(event)``: ``chat-events {"chat_id", "message_id", "data": event}`` to every session of the
        user on all instances, each once. ``status``, ``message`` and ``replace`` events are kept in the message
        store, in order per message, unless ``update_db`` is false.

        ``request_info``: ``{"user_id", "chat_id"?, "message_id"?, "session_id"?}``. The session is one of the user's
        own and so reached with them; one of somebody else's is never. Raises ``InvalidPayload``.
        """
        user_id = check_id(request_info.get("user_id"), what="user_id", max_length=256)
        chat_id, message_id = request_info.get("chat_id"), request_info.get("message_id")

        async def emit(event: Event) -> None:
            payload = {"chat_id": chat_id, "message_id": message_id, "data": event}
            async with self._in_order((str(chat_id), str(message_id))):
                await self._manager.emit("chat-events", payload, room=f"user:{user_id}")
                if update_db and chat_id is not None and message_id is not None:
                    await self._keep(chat_id, message_id, event)

        return emit

    def event_call(self, request_info: Mapping[str, Any], *, resume: bool = False) -> EventCall:
        """Returns ``call(event)``: sends ``chat-events`` to the given session and returns its answer.

        ``request_info``: ``{"user_id", "session_id", "chat_id"?, "message_id"?}``. With ``resume`` a call whose
        session is gone goes on with another of the user's, or with the one that a reload brings, within the time.
        Raises ``SessionGone`` at once when the session is gone, ``CallTimeout``, ``Forbidden`` when it is somebody
        else's, ``StateUnavailable``.
        """
        user_id = check_id(request_info.get("user_id"), what="user_id", max_length=256)
        session_id = check_id(request_info.get("session_id"), what="session_id", max_length=256)

        async def call(event: Event) -> Any:
            payload = {
                "chat_id": request_info.get("chat_id"),
                "message_id": request_info.get("message_id"),
                "data": event,
            }
            try:
                async with asyncio.timeout(self._call_timeout):
                    session = await self._owned(session_id, user_id)
                    if resume:
                        return await self._call_any(session, session_id, user_id, payload)
                    if session is None:
                        raise SessionGone
                    return await self._call(session, payload)
            except TimeoutError:
                raise CallTimeout from None

        return call

    def on_difference(self, difference: Difference) -> None:
        """Calls to sessions of an instance that was reaped end now, unless the sessions came back elsewhere."""
        for lease in difference.reaped:
            if sids := list(self._awaited.get(lease, ())):
                self._tasks.once("fail-calls", self._fail_calls(sids))

    async def _fail_calls(self, sids: list[str]) -> None:
        for sid in sids:
            if await self._state.session(sid) is None:
                self._manager.fail_calls(sid)

    async def _owned(self, session_id: str, user_id: str) -> Session | None:
        session = await self._state.session(session_id)
        if session is not None and session.user.id != user_id:
            raise Forbidden("the session belongs to another user")
        return session

    async def _call(self, session: Session, payload: dict[str, Any]) -> Any:
        waiting = self._awaited[session.lease]
        waiting[session.sid] = waiting.get(session.sid, 0) + 1
        try:
            return await self._manager.call(
                "chat-events", payload, sid=session.sid, timeout=self._call_timeout
            )
        finally:
            waiting[session.sid] -= 1
            if not waiting[session.sid]:
                del waiting[session.sid]
            if not waiting:
                self._awaited.pop(session.lease, None)

    async def _call_any(
        self, first: Session | None, session_id: str, user_id: str, payload: dict[str, Any]
    ) -> Any:
        """The caller's time-out ends this."""
        tried = {session_id}
        session = first
        while True:
            if session is not None:
                try:
                    return await self._call(session, payload)
                except SessionGone:
                    tried.add(session.sid)
            others = [each for each in await self._state.sessions_of(user_id) if each.sid not in tried]
            session = others[-1] if others else None
            if session is None:
                await asyncio.sleep(RELOAD_LOOK_SECONDS)

    async def _keep(self, chat_id: str, message_id: str, event: Event) -> None:
        kind, data = event.get("type"), event.get("data")
        if kind not in ("status", "message", "replace"):
            return
        if not isinstance(data, Mapping):
            raise InvalidPayload(f"data: a {kind} event carries an object")
        if kind == "status":
            await self._messages.add_status(chat_id, message_id, data)
            return
        content = data.get("content", "")
        if not isinstance(content, str):
            raise InvalidPayload("data.content: must be text")
        if kind == "message":
            await self._messages.append(chat_id, message_id, content)
        else:
            await self._messages.replace(chat_id, message_id, content)
