"""What clients may send, and what happens then.

Each event is checked and done; a fault is raised, which the wire answers with ``{"error": {"code", "message"}}``, and
changes nothing. The wire runs the events of one socket one after the other, so a handler sees its socket's state alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from realtime.auth import Claims, decode_token
from realtime.directory import User
from realtime.errors import (
    DirectoryUnavailable,
    Forbidden,
    InvalidPayload,
    InvalidToken,
    LimitExceeded,
    NotAuthenticated,
    RealtimeError,
    SessionGone,
    StateUnavailable,
    TokenRevoked,
    UnknownUser,
)
from realtime.ids import check_id
from realtime.log_context import about_user
from realtime.payloads import ChannelEvent, Identify, Usage, check_plain, connect_token, parse, wants_diffs
from realtime.presence import SIGNED_IN
from realtime.state import Outcome, Registered, Session

if TYPE_CHECKING:
    from realtime.server import RealtimeServer

log = logging.getLogger(__name__)
_T = TypeVar("_T")

CHANNEL_READS = 3
"""How often at most a sign-in reads channels that change meanwhile."""
OWN_JOIN_SECONDS = 0.25
"""How long a new client's first list may wait for the client itself to be on it."""


class Handlers:
    """The events of one ``RealtimeServer``."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server
        self._settings = server.settings
        self._wants_diffs: set[str] = set()
        self.sign_ins: Counter[str] = Counter()
        """How often somebody signed in ("ok"), came without a token ("no-token"), or was refused with a code."""

    def attach(self) -> None:
        wire = self._server.wire
        wire.on("connect", self.connect)
        wire.on("disconnect", self.disconnect)
        wire.on("user-join", self.user_join)
        wire.on("join-channels", self.join_channels)
        wire.on("channel-events", self.channel_events)
        wire.on("usage", self.usage)
        wire.on("user-list", self.user_list)

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Signs the socket in, or lets it stay for a while as a stranger. A ``RealtimeError`` refuses it."""
        self._server.check_accepting()
        if wants_diffs(auth):
            self._wants_diffs.add(sid)
        try:
            try:
                await self._enter(sid, connect_token(auth))
            except (InvalidToken, UnknownUser) as error:
                log.info("the socket %s is not signed in: %s", sid, error)
                self._admit_stranger(sid)
        except BaseException:
            await self._forget(sid)
            raise

    async def disconnect(self, sid: str, reason: str = "") -> None:
        """Removes session, user and usage entries in one step."""
        about_user(self._server.sessions.user_of(sid))
        await self._forget(sid)

    async def refused(self, sid: str) -> None:
        """An application's handler around `connect` refused the socket after all, or failed."""
        if self._server.sessions.get(sid) is not None or sid in self._server.strangers:
            await self._forget(sid)

    async def user_join(self, sid: str, *args: Any) -> dict[str, Any]:
        """``{"auth": {"token"}}`` → ``{"id", "name"}``. Another user's token leaves the old identity first."""
        session = await self._identify(sid, args)
        return {"id": session.user.id, "name": session.user.name}

    async def join_channels(self, sid: str, *args: Any) -> dict[str, Any]:
        """``{"auth": {"token"}}`` → ``{"channels": […]}``: joins the rooms of new channels, leaves those lost."""
        await self._identify(sid, args)
        return {
            "channels": sorted(room[8:] for room in self._server.rooms.of(sid) if room.startswith("channel:"))
        }

    async def channel_events(self, sid: str, *args: Any) -> None:
        """From a member to the whole channel, with who says it."""
        event = parse(ChannelEvent, args, max_id_length=self._settings.realtime_max_id_length)
        session = self._session(sid)
        room = f"channel:{event.channel_id}"
        if not self._server.rooms.is_in(sid, room):  # the shared state may learn later that it was left
            raise Forbidden(f"not a member of the channel {event.channel_id}")
        if not self._settings.allows_channel_event(event.data.type):
            raise Forbidden("channel events of this type are not enabled here")
        check_plain(args[0]["data"], what="data")
        payload: dict[str, Any] = {"channel_id": event.channel_id}
        if "message_id" in args[0]:
            payload["message_id"] = event.message_id
        payload |= {"data": args[0]["data"], "user": public(session.user)}
        await self._server.wire.emit("channel-events", payload, room=room)

    async def usage(self, sid: str, *args: Any) -> None:
        """``{"model"}``: in use from now on, for the time that the settings say."""
        usage = parse(Usage, args, max_id_length=self._settings.realtime_max_id_length)
        self._session(sid)
        outcome = await self._server.state.touch(
            sid,
            [usage.model],
            ttl_ms=round(self._settings.realtime_usage_seconds * 1000),
            cap=self._settings.realtime_max_models_per_session,
        )
        if outcome is Outcome.LIMIT:
            raise LimitExceeded("this session uses too many models at once")
        if outcome is Outcome.UNKNOWN:
            self._server.leases.hurry()
            raise StateUnavailable("this session is being registered again: try again in a moment")

    async def user_list(self, sid: str, *_args: Any) -> None:
        """The list, to the asker only."""
        await self._server.audience.answer(self._session(sid), diffs=sid in self._wants_diffs)

    async def _identify(self, sid: str, args: tuple[Any, ...]) -> Session:
        payload = parse(Identify, args, max_id_length=self._settings.realtime_max_id_length)
        return await self._enter(sid, payload.auth.token)

    async def _enter(self, sid: str, token: str | None) -> Session:
        try:
            session = await self._sign_in(sid, self._decode(token))
        except RealtimeError as error:
            self.sign_ins["no-token" if token is None else error.code] += 1
            raise
        self.sign_ins["ok"] += 1
        return session

    async def _look_up(self, answer: Awaitable[_T]) -> _T:
        """What the directory answers. One of the application's own may have forgotten that every wait has a limit."""
        try:
            async with asyncio.timeout(2 * self._settings.realtime_state_timeout_seconds):
                return await answer
        except TimeoutError:
            log.warning("the directory did not answer in time")
            raise DirectoryUnavailable from None

    def _decode(self, token: str | None) -> Claims:
        if token is None:
            raise InvalidToken("no token was given")
        return decode_token(token, self._settings.secret_key, now=self._server.clock.time())

    async def _sign_in(self, sid: str, claims: Claims) -> Session:
        """Makes the socket a session of the token's user, or leaves it a stranger that hears nothing: never half.

        One that was this user's session before stays one, unless its new token was revoked: it has left the channels
        that are lost, and asks again for those that it could not enter.
        """
        server = self._server
        about_user(claims.user_id)
        found = await self._look_up(server.directory.login(claims.user_id))
        if found is None:
            if server.sessions.user_of(sid) == claims.user_id:  # who was there and is no more
                await self._leave_identity(sid)
            raise UnknownUser
        if server.wire.is_gone(sid):
            raise SessionGone
        user, channels = found
        own = self._rooms_of(user, channels)
        before = server.sessions.get(sid)
        if before is not None and before.session.user.id != user.id:
            await self._leave_identity(sid)
            before = None
        session = Session(
            sid=sid,
            user=user,
            # Rooms that the application put the session into stay; channels follow the directory.
            rooms=own | server.rooms.of_application(sid),
            jti=claims.jti,
            issued_at_ms=None if claims.issued_at is None else _whole_ms(claims.issued_at),
        )
        server.rooms.prepare(own)  # so that Redis is asked for both at the same time
        registered = await server.sessions.register(session, claims.expires_at)
        try:
            if await server.revocations.hit(session, registered):
                raise TokenRevoked
            server.strangers.set(sid, None)
            server.expiries.set(sid, claims.expires_at)
            session = await self._join(session, own, channels)
            if before is None:
                await self._greet(session, registered)
        except BaseException as error:
            if before is not None and isinstance(error, Exception) and not isinstance(error, TokenRevoked):
                self._stay(sid, own, claims)
            else:
                await self._leave_identity(sid)
            raise
        return session

    def _stay(self, sid: str, own: frozenset[str], claims: Claims) -> None:
        server = self._server
        server.expiries.set(sid, claims.expires_at)
        server.leases.hurry(recheck_tokens=True)
        server.rooms.leave_lost(sid, own)
        server.rooms.tell(sid)

    async def _join(self, session: Session, own: frozenset[str], channels: frozenset[str]) -> Session:
        """Enters the rooms that are its own, and makes up for changes of its channels while it was not in them.

        ``leave_room_for_users`` passes over a session that is not registered or not in the room yet. From the entering
        on it does not: what is read then and still the same cannot have been left before.
        """
        server, sid = self._server, session.sid
        await server.rooms.join(sid, own)
        for _ in range(CHANNEL_READS):
            now = await self._look_up(server.directory.channels(session.user.id))
            if now == channels:
                break
            channels = now
            own = self._rooms_of(session.user, channels)
            await server.rooms.join(sid, own)
            await server.sessions.change_rooms(sid, functools.partial(server.rooms.of, sid))
            session = replace(session, rooms=own | server.rooms.of_application(sid))
        return session

    async def _greet(self, session: Session, registered: Registered) -> None:
        server, sid = self._server, session.sid
        server.manager.admit(sid)
        server.rooms.enter_local(sid, SIGNED_IN)
        await server.replica.wait_for(registered.epoch, registered.version, OWN_JOIN_SECONDS)
        await server.audience.greet(session, diffs=sid in self._wants_diffs)
        await server.usage_audience.greet(sid)

    def _rooms_of(self, user: User, channels: frozenset[str]) -> frozenset[str]:
        if len(channels) > self._settings.realtime_max_channels_per_user:
            raise LimitExceeded("this user is in more channels than this server allows")
        rooms = {f"user:{check_id(user.id, what='user_id')}"}
        for channel in channels:
            try:
                rooms.add(f"channel:{check_id(channel, what='channel_id')}")
            except InvalidPayload as error:
                log.warning("a channel of the user %s is left out: %s", user.id, error)
        return frozenset(rooms)

    async def _leave_identity(self, sid: str) -> None:
        """Hears nothing of the user's from here on; unless it signs in in time, it is closed."""
        server = self._server
        server.rooms.leave_all(sid)
        server.manager.forget_asks(sid)
        server.expiries.set(sid, None)
        server.strangers.set(sid, server.monotonic() + self._settings.realtime_auth_grace_seconds)
        await server.sessions.unregister([sid])

    def _admit_stranger(self, sid: str) -> None:
        strangers = self._server.strangers
        if sid not in strangers and len(strangers) >= self._settings.realtime_max_unauthenticated:
            raise LimitExceeded("too many sockets that are not signed in: connect with a token")
        strangers.set(sid, self._server.monotonic() + self._settings.realtime_auth_grace_seconds)

    async def _forget(self, sid: str) -> None:
        self._wants_diffs.discard(sid)
        self._server.strangers.set(sid, None)
        self._server.expiries.set(sid, None)
        await self._server.sessions.unregister([sid])

    def _session(self, sid: str) -> Session:
        local = self._server.sessions.get(sid)
        if local is None:
            raise NotAuthenticated
        return local.session


def _whole_ms(seconds: float) -> int:
    """Down, as the state counts: rounded up, a token could seem newer than the revocation that followed it."""
    return int(seconds * 1000)


def public(user: User) -> dict[str, str]:
    """What others learn of a user."""
    return {"id": user.id, "name": user.name, "role": user.role, "profile_image_url": user.profile_image_url}
