"""One instance of the layer, composed: nothing here is at module level, so several may live in one process."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from realtime.calls import Emitters, EventCall, EventEmitter, json_only
from realtime.clock import FleetClock
from realtime.deadlines import Deadlines
from realtime.directory import Directory
from realtime.errors import Close, InvalidPayload, RealtimeError, StateUnavailable
from realtime.handlers import Handlers
from realtime.housekeeping import RedisLock, UsageCleanup
from realtime.ids import check_id, check_ids
from realtime.leasing import LeaseKeeper
from realtime.link import Connector, RedisBus, RedisLink, connector_from_settings
from realtime.logs import guard_loggers
from realtime.messages import MessageStore
from realtime.messages.memory import NoMessages
from realtime.metrics.lag import LoopLag
from realtime.payloads import check_plain
from realtime.presence import Audience, Everyone
from realtime.repairs import Repairs
from realtime.replica import Difference, Replica
from realtime.revocations import Revocations
from realtime.rooms import MAX_NAME_LENGTH, LocalRooms, check_room
from realtime.sessions import LocalSessions
from realtime.settings import Settings
from realtime.shared_channels import SharedChannels
from realtime.state import MemoryState, RedisState, SessionPool, State, UsagePool, UserPool
from realtime.tasks import Supervisor
from realtime.usage import UsageAudience
from realtime.wire import Bus, Limits, WireManager, WireServer

if TYPE_CHECKING:
    from realtime.metrics.listener import MetricsListener

log = logging.getLogger(__name__)

CLOSE_BATCH = 50
AT_ONCE = 100
"""Sessions that are told to enter or leave a room, or to close, side by side."""
FIRST_COPY_SECONDS = 2.0
NEVER_MS = 2**53


class RealtimeServer:
    """Socket.IO server, shared state and everything between. ``start`` and ``stop`` belong to the application's
    lifespan; ``drain`` comes before ``stop`` where sockets shall be closed gently."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        *,
        messages: MessageStore | None = None,
        connector: Connector | None = None,
        state: State | None = None,
        bus: Bus | None = None,
    ) -> None:
        """``connector``: Redis by other means than the settings say. ``state`` and ``bus``: without Redis, shared by
        the servers of one process."""
        guard_loggers()
        self.settings = settings
        self.directory = directory
        self.messages = NoMessages() if messages is None else messages
        self.clock = FleetClock()
        self.tasks = Supervisor()
        self.draining = False
        self._started = False

        self._link: RedisLink | None = None
        if connector is not None or settings.redis_url is not None:
            timeout = settings.realtime_state_timeout_seconds
            self._link = RedisLink(connector or connector_from_settings(settings), timeout=timeout)
            state = RedisState(self._link, root=settings.state_key_prefix)
            bus = RedisBus(self._link, max_message_bytes=settings.realtime_max_bus_message_bytes)
        self.state: State = state or MemoryState()

        self.manager = WireManager(
            bus,
            channel=settings.realtime_bus_channel,
            max_message_bytes=settings.realtime_max_bus_message_bytes,
            room_channels=settings.websocket_redis_room_channels,
            join_seconds=2 * settings.realtime_state_timeout_seconds,
        )
        self.wire = WireServer(
            self.manager,
            tag=settings.instance_tag,
            max_pending_events=settings.realtime_max_pending_events,
            limits=Limits(
                max_outgoing_bytes=settings.realtime_max_outgoing_bytes,
                slow_seconds=settings.realtime_slow_consumer_seconds,
                handshake_seconds=settings.realtime_handshake_seconds,
                max_events_per_second=settings.realtime_max_events_per_second,
                max_event_burst=settings.realtime_max_event_burst,
                max_rooms=settings.realtime_max_rooms_per_session,
            ),
            direct=settings.realtime_direct_websockets,
            refused=lambda sid: self.handlers.refused(sid),
            transports=settings.transports,
            allow_upgrades=settings.enable_websocket_support,
            cors_allowed_origins=settings.cors_origins,
            ping_interval=settings.websocket_server_ping_interval,
            ping_timeout=settings.websocket_server_ping_timeout,
            max_http_buffer_size=settings.realtime_max_payload_bytes,
        )
        self.leases = LeaseKeeper(
            self.state,
            self.clock,
            name=settings.realtime_instance_name,
            ttl=settings.realtime_lease_seconds,
        )
        self.sessions = LocalSessions(self.state, self.leases, cap=settings.realtime_max_sessions_per_user)
        self.wire.user_of = self.sessions.user_of
        self.replica = Replica(self.state, self._on_difference, now=self.clock.time)
        self.repairs = Repairs(
            self.state,
            self.sessions,
            self.leases,
            doubt_seconds=settings.realtime_lease_seconds,
            on_revoked=self._close_revoked,
        )
        self.leases.sessions, self.leases.replica = self.sessions, self.replica
        self.leases.repairs = self.repairs
        self.rooms = LocalRooms(self.manager, self.sessions)
        self.audience = self._audience()
        self.usage_audience = UsageAudience(
            self.replica, self.rooms, rate=settings.realtime_list_bytes_per_second
        )
        self.revocations = Revocations(
            self.state,
            self.sessions,
            self.replica,
            self.tasks,
            close=self._close_revoked,
            recheck=lambda: self.leases.hurry(recheck_tokens=True),
        )
        self.emitters = Emitters(
            self.manager,
            self.state,
            self.messages,
            self.tasks,
            call_timeout=settings.websocket_event_caller_timeout,
        )
        self.strangers = Deadlines(self.monotonic, self._close_stranger)
        self.expiries = Deadlines(self.clock.time, self._close_expired)
        self.cleanup = self.usage_cleanup()
        self.handlers = Handlers(self)
        self.handlers.attach()
        self.loop_lag = LoopLag()
        self._metrics: MetricsListener | None = None

        self.SESSION_POOL = SessionPool(self.state)
        self.USER_POOL = UserPool(self.state)
        self.USAGE_POOL = UsagePool(self.state)

    # Life

    async def start(self) -> None:
        """Connects, takes a lease, reaps what a fleet that died left behind, and starts its tasks.

        Raises ``StateUnavailable``, ``SchemaMismatch``, ``DirectoryUnavailable`` or ``SettingsError``: then it must
        not serve.
        """
        try:
            await self.directory.start()
            self.wire.start()
            self.tasks.spawn("replica", self.replica.run)
            if self._link is not None:
                await self._link.start(supervise=self.tasks.spawn)
            await self.state.start()
            await self.leases.acquire()
            self.replica.want_snapshot()
            if not await self.replica.synchronised(FIRST_COPY_SECONDS):
                raise StateUnavailable("no snapshot of the shared state could be taken")
            if self.settings.realtime_metrics_port:
                await self._show_metrics()
        except BaseException:
            await self.stop()
            raise
        self.tasks.spawn("lease", self.leases.run)
        self.tasks.spawn("repairs", self.repairs.run)
        self.tasks.spawn("rooms", self.rooms.run)
        self.tasks.spawn("usage-cleanup", self.cleanup.run)
        self.tasks.spawn("presence", self.audience.pacer.run)
        self.tasks.spawn("usage", self.usage_audience.pacer.run)
        self.tasks.spawn("token-expiry", self.expiries.run)
        self.tasks.spawn("strangers", self.strangers.run)
        self._started = True

    async def drain(self) -> None:
        """Lets go of every client gently, within the grace time: not ready, sessions out in batches, sockets closed
        with a reason, spread over time so that the clients do not all come back at once; then the lease."""
        if self.draining:
            return
        self.draining = True
        grace = self.settings.realtime_shutdown_grace_seconds
        try:
            async with asyncio.timeout(grace):
                await self._drain(grace / 2)
        except (RealtimeError, TimeoutError) as error:
            log.warning("draining was cut short: %s", error or "the grace time is over")

    async def stop(self) -> None:
        """Ends everything, within bounded time; what cannot be told to the state any more, the lease covers. A second
        time does no harm."""
        self.draining = True
        self._started = False
        try:
            async with asyncio.timeout(self.settings.realtime_state_timeout_seconds):
                await self.leases.release()
        except (RealtimeError, TimeoutError) as error:
            log.warning("the lease was left to expire: %s", error)
        await self._close_all()

    async def _drain(self, spread: float) -> None:
        sids = [local.session.sid for local in self.sessions]
        batches = [sids[at : at + CLOSE_BATCH] for at in range(0, len(sids), CLOSE_BATCH)]
        pause = min(1.0, spread / len(batches)) if batches else 0.0
        for number, batch in enumerate(batches):
            if number:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            await self.sessions.unregister(batch)
            for sid in batch:
                await self.wire.close(sid, Close.DRAINING)
        for eio_sid in list(self.wire.connections):
            self.wire.close_connection(eio_sid, Close.DRAINING)
        await self.leases.release()

    async def _close_all(self) -> None:
        # The last comes first, and one that fails keeps no other from being closed.
        async with AsyncExitStack() as ends:
            ends.push_async_callback(self.directory.close)
            ends.push_async_callback(self.state.close)
            if self._link is not None:
                ends.push_async_callback(self._link.close)
            ends.push_async_callback(self.tasks.close)
            ends.push_async_callback(self.wire.aclose, self.settings.realtime_state_timeout_seconds)
            if self._metrics is not None:
                ends.push_async_callback(self._metrics.close)

    # What other parts ask

    def check_accepting(self) -> None:
        """Raises ``StateUnavailable`` when no new client may come in."""
        if self.draining:
            raise StateUnavailable("this instance is shutting down: connect again")
        if not self.leases.held:
            raise StateUnavailable("the shared state cannot be reached: try again in a moment")

    async def ready(self) -> dict[str, bool]:
        """What ``/ready`` shows: the instance is ready iff all of it is true."""
        subscribed = self._link is None or self._link.subscriber.connected.is_set()
        return {
            "started": self._started,
            "lease_held": self._started and self.leases.held,
            "subscribed": subscribed,
            "accepting": not self.draining,
        }

    @property
    def link(self) -> RedisLink | None:
        """The connections to Redis, where there is one."""
        return self._link

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def usage_cleanup(self) -> UsageCleanup:
        """The task behind ``periodic_usage_pool_cleanup``."""
        timeout = self.settings.websocket_redis_lock_timeout
        lock = RedisLock(self.state, "usage-cleanup", timeout)
        return UsageCleanup(
            self.state,
            lock,
            lock_timeout=timeout,
            usage_seconds=self.settings.realtime_usage_seconds,
            in_use=lambda: self.replica.models,
        )

    # For other backend modules. All raise ``InvalidPayload`` for what is no id or no name.

    def get_event_emitter(self, request_info: Mapping[str, Any], update_db: bool = True) -> EventEmitter:
        """See ``Emitters.event_emitter``."""
        return self.emitters.event_emitter(request_info, update_db)

    def get_event_call(self, request_info: Mapping[str, Any], *, resume: bool = False) -> EventCall:
        """See ``Emitters.event_call``."""
        return self.emitters.event_call(request_info, resume=resume)

    async def get_models_in_use(self) -> list[str]:
        """Models in use on all instances at this moment."""
        return sorted(await self.state.models_in_use())

    async def get_user_id_from_session_pool(self, sid: str) -> str | None:
        session = await self.state.session(check_id(sid, what="sid"))
        return None if session is None else session.user.id

    async def get_user_ids_from_room(self, room: str) -> list[str]:
        """Users with a session in the room, on all instances."""
        check_id(room, what="room", max_length=MAX_NAME_LENGTH)
        return sorted((await self.state.room_users([room]))[room])

    async def get_active_status_by_user_id(self, user_id: str) -> bool:
        """Whether the user is connected to any instance."""
        return bool(await self.state.sessions_of(check_id(user_id, what="user_id")))

    async def emit_to_users(self, event: str, data: Any, user_ids: list[str]) -> None:
        """To every session of these users on all instances, each once, in one publish. ``data``: one argument, or a
        tuple of several. Raises ``InvalidPayload`` and ``MessageTooLarge``; then nobody got it."""
        check_plain(data, what="data")
        rooms = [f"user:{user_id}" for user_id in check_ids(user_ids, what="user_ids")]
        with json_only():
            await self.manager.emit(event, data, room=rooms)

    async def enter_room_for_users(self, room: str, user_ids: list[str]) -> None:
        """Puts every session that these users have now into a room, on all instances; ``get_user_ids_from_room`` knows
        it soon. A room ``channel:…`` lasts until the session reads its channels from the directory again.

        Raises ``InvalidPayload`` for a name that the layer keeps to itself: ``user:…``, ``~…``, a session's; and
        ``StateUnavailable`` when it is not certain for each session that it hears the room: then do it again.
        """
        await self._check_room(room)
        await self._for_each(user_ids, lambda sid: self.manager.move(sid, room, into=True))

    async def leave_room_for_users(self, room: str, user_ids: list[str]) -> None:
        """Takes every session of these users out of a room, on all instances. Raises as ``enter_room_for_users``, and
        as ``disconnect_user``."""
        await self._check_room(room)
        await self._for_each(user_ids, lambda sid: self.manager.move(sid, room, into=False))

    async def disconnect_user(self, user_id: str) -> None:
        """Closes every session of the user on all instances; their clients do not come back by themselves.

        Raises ``StateUnavailable`` or ``BusOverloaded`` when some instance did not confirm it: then do it again.
        """
        await self._for_each([user_id], lambda sid: self.wire.close(sid, Close.KICKED, confirmed=True))

    async def revoke_token(self, jti: str, expires_at: float | None = None) -> None:
        """Closes the sessions of one token on all instances and lets it in no more.

        ``expires_at`` (unix seconds): the token's own end, after which nobody need remember it; None: never. Raises
        ``StateUnavailable``: then revoke again.
        """
        check_id(jti, what="jti")
        if not (expires_at is None or (isinstance(expires_at, int | float) and math.isfinite(expires_at))):
            raise InvalidPayload("expires_at must be a time in unix seconds, or None")
        until = NEVER_MS if expires_at is None else min(NEVER_MS, round(expires_at * 1000))
        await self.state.revoke_token(jti, until)

    async def revoke_user(self, user_id: str) -> None:
        """The same for every token that was issued to the user up to now: by its claim ``iat``, to the millisecond.

        A token without ``iat`` could be of any age and is refused from then on; one whose ``iat`` is cut to whole
        seconds seems older than it is, so hand out new ones with fractions (``create_token`` does), or a second later.
        """
        check_id(user_id, what="user_id")
        await self.state.revoke_user(user_id)

    async def _for_each(self, user_ids: list[str], act: Callable[[str], Awaitable[object]]) -> None:
        """With every session of these users, side by side; what failed for one is raised when all were tried."""
        failures: list[BaseException] = []
        sids = await self._sids(user_ids)
        for at in range(0, len(sids), AT_ONCE):
            done = await asyncio.gather(*map(act, sids[at : at + AT_ONCE]), return_exceptions=True)
            failures += [each for each in done if isinstance(each, BaseException)]
        if failures:
            raise failures[-1]

    async def _sids(self, user_ids: list[str]) -> list[str]:
        ids = check_ids(user_ids, what="user_ids")
        return [session.sid for user_id in ids for session in await self.state.sessions_of(user_id)]

    async def _check_room(self, room: str) -> None:
        if await self.state.session(check_room(room)) is not None:
            raise InvalidPayload("room: the name of a session is no room for others")

    # Inside

    async def _show_metrics(self) -> None:
        # Only here: whoever does not ask for metrics does without their library, the simulator among them.
        from realtime.metrics.listener import MetricsListener

        host, port = self.settings.realtime_metrics_host, self.settings.realtime_metrics_port
        self._metrics = MetricsListener(self, host=host, port=port)
        log.info("metrics are at %s", await self._metrics.start())
        self.tasks.spawn("loop-lag", self.loop_lag.run)

    def _audience(self) -> Audience:
        interval = self.settings.realtime_list_interval_seconds
        rate = float(self.settings.realtime_list_bytes_per_second)
        longest = self.settings.realtime_list_max_users
        if self.settings.realtime_user_list_visibility == "everyone":
            return Everyone(self.replica, self.rooms, interval=interval, rate=rate, longest=longest)
        return SharedChannels(
            self.replica, self.rooms, self.state, self.sessions, interval=interval, rate=rate, longest=longest
        )

    def _on_difference(self, difference: Difference) -> None:
        self.audience.on_difference(difference)
        self.usage_audience.on_difference(difference)
        self.revocations.on_difference(difference)
        self.emitters.on_difference(difference)

    async def _close_revoked(self, sid: str) -> None:
        await self.wire.close(sid, Close.TOKEN_REVOKED)

    async def _close_expired(self, sid: str) -> None:
        await self.wire.close(sid, Close.TOKEN_EXPIRED)

    async def _close_stranger(self, sid: str) -> None:
        await self.wire.close(sid, Close.AUTH_TIMEOUT)
