"""The client manager: rooms, emits and calls across instances, in python-socketio's message format."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.packet import Packet

from realtime.errors import (
    BusOverloaded,
    CallTimeout,
    LimitExceeded,
    MessageTooLarge,
    RealtimeError,
    SessionGone,
    StateUnavailable,
)

from .bus import Bus
from .calls import Asker, CallbackAsker, CallWaiter, Question, Waiting
from .channels import RoomChannels, looks_like_sid, room_channel
from .delivery import LocalDelivery, Room, logger
from .inbound import Inbound
from .lanes import Lane
from .rooms import Member

Message = dict[str, Any]


class WireManager(AsyncPubSubManager, LocalDelivery):
    """AsyncPubSubManager over a `Bus`, with `LocalDelivery` below it.

    An emit reaches this instance's sockets first and then the bus. When the bus fails, that is logged and
    counted (`counters.bus_unavailable`, `bus_overloaded`) and the emit returns: the local part cannot be
    taken back, and to raise would make callers send it twice. A message above `max_message_bytes` raises
    `MessageTooLarge` before anyone gets it. `call` has delivered nothing when the bus fails, and raises.

    With `bus=None` there is no other instance: nothing is encoded for one and nothing is too large.

    With `room_channels` an emit to one room goes to that room's channel (see `channels`), everything else to
    the common channel; without, all goes to the common channel, which stock instances hear. Both are heard
    in either case. A join returns when the room's channel is heard, or raises `StateUnavailable`.
    """

    name = "wire"

    max_waiting = 10_000
    """Questions to other instances that may be open at once; beyond, the oldest is given up."""
    max_recently_gone = 10_000
    """Sids remembered after they left, so that a question that crosses their disconnect is answered at once.
    """

    def __init__(
        self,
        bus: Bus | None,
        *,
        channel: str = "socketio",
        max_message_bytes: int = 1_048_576,
        max_inbound: int = 10_000,
        max_inbound_bytes: int = 64 * 1024 * 1024,
        max_outbound: int = 10_000,
        room_channels: bool = True,
        join_seconds: float = 4.0,
    ) -> None:
        super().__init__(channel=channel, logger=logger)
        self.bus = bus
        self.max_message_bytes = max_message_bytes
        self.waiting = Waiting(limit=self.max_waiting, evicted=self._evicted)
        self.inbound = Inbound(self, limit=max_inbound, limit_bytes=max_inbound_bytes)
        self._outbox = Lane(limit=max_outbound, raised=self._bus_failed, lost=self._outbox_lost)
        self._recently_gone: dict[str, None] = {}
        self._started = False
        self._sends_to_rooms = room_channels
        self._join_seconds = join_seconds
        self._joining: dict[tuple[str, str], int] = {}
        self.channels: RoomChannels | None = None
        if bus is not None:
            self.channels = RoomChannels(bus, channel, self.book.occupied, self.counters)
            self.book.emptied = self.channels.emptied

    # --- life

    def initialize(self) -> None:
        """Replaces AsyncPubSubManager.initialize, whose task dies unnoticed and waits for the first client to
        come.
        """
        if not self._started:
            self._started = True
            if self.bus is not None:
                self.bus.listen(self.channel, self.inbound.receive)
                self.bus.listen_to_rooms(self.inbound.receive_for_room)

    async def aclose(self, timeout: float = 2.0) -> None:
        """Hear nothing more and end all tasks, within about `timeout` seconds for each kind of them."""
        if self.channels is not None:
            self.channels.close()
        await self.inbound.stop(timeout)
        await self.tasks.stop(timeout)
        await self._outbox.stop(timeout)

    # --- sending

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Room = None,
        skip_sid: str | Sequence[str] | None = None,
        callback: Callable[..., Any] | None = None,
        to: Room = None,
        **kwargs: Any,
    ) -> None:
        """Replaces AsyncPubSubManager.emit: the size is checked before anyone gets the message, what goes to
        local sockets is not put through base64, a socket of this instance is asked without the bus, an empty
        list of rooms is nobody rather than everyone. Errors: see the class.
        """
        namespace = namespace or "/"
        target = to if to is not None else room
        if target is not None and not isinstance(target, str):
            target = list(target)
        asker: Asker | None = None
        if callback is not None:
            asker = CallbackAsker(callback, self.tasks.spawn)
        if asker is not None and not isinstance(target, str):
            raise ValueError("A callback needs one room or sid to ask.")
        alone = asker is not None and isinstance(target, str) and self.book.get(target, namespace) is not None
        if self.bus is None or alone or kwargs.get("ignore_queue"):
            self.deliver(event, data, namespace, target, skip_sid, asker)
            return
        number = next(self.numbers) if asker is not None else None
        encoded = self.encode_message(self._emit_message(event, data, namespace, target, skip_sid, number))
        if number is not None and asker is not None and isinstance(target, str):
            self.waiting.add(number, target, asker)
            asker = self.inbound.asker(Question(self.host_id, target, namespace, number))
        self.deliver(event, data, namespace, target, skip_sid, asker)
        to_room = None
        if self._sends_to_rooms and isinstance(target, str) and number is None and not looks_like_sid(target):
            to_room = room_channel(self.channel, namespace, target)
        await self.publish(encoded, to_room)

    async def call(
        self,
        event: str,
        data: Any = None,
        *,
        sid: str,
        timeout: float,
        namespace: str = "/",
        member_of: str | None = None,
    ) -> Any:
        """Ask a socket of any instance and return its answer: one value, a tuple of several, or None.

        With `member_of` the socket is only asked if it is in that room when the question reaches it; otherwise
        it counts as gone. Stock instances do not look.

        Raises `CallTimeout` after `timeout` seconds, `SessionGone` as soon as it is known that the socket has
        closed, `MessageTooLarge`, and what the bus raises. Whatever happens, nothing is kept afterwards.
        """
        member = self.book.get(sid, namespace)
        if self._is_gone(sid, member, member_of):
            self.counters.calls_gone += 1
            raise SessionGone()
        number = next(self.numbers)
        waiter = CallWaiter()
        try:
            async with asyncio.timeout(timeout):
                if member is not None:
                    self.ask(member, event, data, number, waiter)
                else:
                    await self._ask_elsewhere(event, data, namespace, sid, number, waiter, member_of)
                args = await waiter.future
        except TimeoutError:
            self.counters.calls_timed_out += 1
            raise CallTimeout() from None
        except SessionGone:
            self.counters.calls_gone += 1
            raise
        finally:
            if member is not None:
                member.asks.pop(number, None)
            elif self.waiting.take(number, sid) is not None:
                self.post_message(self._own("forget", sid=sid, namespace=namespace, id=number))
        return args[0] if len(args) == 1 else tuple(args) if args else None

    def fail_calls(self, sid: str) -> int:
        """Every call that waits for this sid raises `SessionGone` now; how many there were."""
        askers = self.waiting.take_all(sid)
        for asker in askers:
            asker.gone(sid)
        return len(askers)

    def forget_asks(self, sid: str) -> None:
        """Whoever waits for an answer of this socket of this instance is told that it is gone; what it still answers
        is nobody's.
        """
        member = self.book.members.get(sid)
        if member is not None:
            asks, member.asks = member.asks, {}
            for asker in asks.values():
                asker.gone(sid)

    def may_not_ask(self, member: Member, member_of: str | None) -> bool:
        """Whether a socket of this instance is gone, or not in the room that it has to be in; see `call`."""
        return member.gone is not None or (member_of is not None and member_of not in member.rooms)

    async def close_elsewhere(self, sid: str, namespace: str, name: str, *, confirmed: bool = False) -> None:
        """Have the instance that owns `sid` close it for the `Close` of that name; stock instances ignore
        this. Raises what the bus raises, and if it is to be `confirmed` `StateUnavailable` when nobody did.
        """
        message = self._own("close", sid=sid, namespace=namespace, close=name)
        await (self._have_done(sid, message) if confirmed else self._tell(message))

    async def move(self, sid: str, room: str, *, into: bool, namespace: str = "/") -> None:
        """Have a socket of any of our instances enter or leave a room. Raises what the bus raises, and
        `StateUnavailable` when nobody confirmed it: whoever takes somebody out of a room must know if that was not
        heard. For entering see `enter_room`.
        """
        if self.bus is None or self.book.get(sid, namespace) is not None or self.was_here(sid):
            await (self.enter_room if into else self.leave_room)(sid, namespace, room)
        elif into:
            await self._enter_elsewhere(sid, namespace, room, confirmed=True)
        else:
            await self._leave_before_emits(sid, namespace, room)
            await self._have_done(sid, self._own("leave_room", sid=sid, room=room, namespace=namespace))

    async def _tell(self, message: Message) -> None:
        if self.bus is not None:
            await self.bus.publish(self.channel, self.encode_message(message))
            self.counters.bus_published += 1

    def _is_gone(self, sid: str, member: Member | None, member_of: str | None) -> bool:
        if member is not None:
            return self.may_not_ask(member, member_of)
        return self.bus is None or sid in self._recently_gone

    async def _ask_elsewhere(
        self,
        event: str,
        data: Any,
        namespace: str,
        sid: str,
        number: int,
        waiter: Asker,
        member_of: str | None,
    ) -> None:
        message = self._emit_message(event, data, namespace, sid, None, number)
        if member_of is not None:
            message["member_of"] = member_of
        encoded = self.encode_message(message)
        self.waiting.add(number, sid, waiter)
        assert self.bus is not None
        await self.bus.publish(self.channel, encoded)
        self.counters.bus_published += 1

    def _emit_message(
        self, event: str, data: Any, namespace: str, room: Room, skip_sid: Any, number: int | None
    ) -> Message:
        args: list[Any] = list(data) if isinstance(data, tuple) else [data]
        binary = Packet.data_is_binary(args)
        if binary:
            args, attachments = Packet.deconstruct_binary(args)
            args = [args, *[base64.b64encode(each).decode() for each in attachments]]
        return self._own(
            "emit",
            event=event,
            data=args,
            binary=binary,
            namespace=namespace,
            room=room,
            skip_sid=skip_sid if skip_sid is None or isinstance(skip_sid, str) else list(skip_sid),
            callback=None if number is None else (room, namespace, number),
        )

    def _own(self, method: str, **fields: Any) -> Message:
        # The sender comes first in the text, so that an instance knows its own messages without parsing them.
        return {"host_id": self.host_id, "method": method, **fields}

    # --- the bus

    def encode_message(self, message: Message) -> bytes:
        """Raises `MessageTooLarge`, or TypeError for what JSON cannot carry."""
        encoded: bytes = self.json.dumps(message, separators=(",", ":")).encode()
        if len(encoded) > self.max_message_bytes:
            raise MessageTooLarge(
                f"The message takes {len(encoded)} bytes between instances; the limit is "
                f"{self.max_message_bytes}: send less at once."
            )
        return encoded

    async def publish(self, encoded: bytes, to_room: str | None = None) -> None:
        """Hand a message to the bus, for the common channel or a room's; a bus that fails is counted and
        logged, not raised.
        """
        if self.bus is None:
            return
        try:
            if to_room is None:
                await self.bus.publish(self.channel, encoded)
            else:
                await self.bus.publish_to_room(to_room, encoded)
                self.counters.rooms_published += 1
        except MessageTooLarge:
            raise
        except Exception as error:
            self._bus_failed(error)
        else:
            self.counters.bus_published += 1

    async def _publish(self, data: Message) -> None:
        """Replaces AsyncPubSubManager._publish, which is left to subclasses."""
        if self.bus is not None:
            if data.get("host_id") == self.host_id and data.get("method") != "callback":
                data = {"host_id": self.host_id, **data}
            await self.publish(self.encode_message(data))

    def post_message(self, message: Message, *, if_too_large: Message | None = None) -> None:
        """Publish soon, in order, without making the caller wait: what a reader of packets has to tell
        others. `if_too_large` goes in the place of a message that the bus does not carry.
        """
        job = partial(self._publish_or, message, if_too_large)
        if self.bus is not None and not self._outbox.put(job):
            self.counters.bus_outbound_dropped += 1
            self.quiet.warning("outbound", "The bus is behind: answers to other instances are dropped.")

    async def _publish_or(self, message: Message, if_too_large: Message | None) -> None:
        try:
            await self._publish(message)
        except MessageTooLarge as error:
            if if_too_large is None:
                raise
            self.quiet.warning("answer", "A client's answer is too large for other instances. %s", error)
            await self._publish(if_too_large)

    def _bus_failed(self, error: BaseException) -> None:
        if isinstance(error, BusOverloaded):
            self.counters.bus_overloaded += 1
        elif isinstance(error, RealtimeError | OSError):
            self.counters.bus_unavailable += 1
        else:
            self.counters.bus_failed += 1
        self.quiet.warning(
            "publish", "Other instances did not get a message: %s: %s", type(error).__name__, error
        )

    def _outbox_lost(self) -> None:
        self.counters.bus_listener_restarts += 1
        logger.error("The task that sends answers to other instances was ended; it starts again.")

    # --- sockets and rooms

    def left(self, member: Member) -> None:
        """A socket is gone; see `LocalDelivery.left`. It is remembered for those on other instances who ask late."""
        super().left(member)
        self._recently_gone[member.sid] = None
        if len(self._recently_gone) > self.max_recently_gone:
            del self._recently_gone[next(iter(self._recently_gone))]

    def was_here(self, sid: str) -> bool:
        """Whether this sid was a socket of this instance and left not long ago."""
        return sid in self._recently_gone

    async def enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Replaces AsyncPubSubManager.enter_room: returns when what any instance emits to the room from now on
        reaches the socket, while stock only tells the instance that has it. A socket that just left here is not
        sought on other instances.

        Raises `StateUnavailable` when that is not certain in bounded time, and what the bus raises. A socket of this
        instance is then in the room only if it was before. Whether one of another instance is, is not known; it will
        be heard sooner or later if so: enter it again, or have it leave. `LimitExceeded`: it is in too many rooms.
        """
        if self.was_here(sid):
            return
        namespace = namespace or "/"
        if self.book.get(sid, namespace) is not None:
            await self.join(sid, [room], namespace)
        elif self.bus is not None:
            # On the common channel no emit overtakes it, and stock does not answer.
            await self._enter_elsewhere(sid, namespace, room, confirmed=self._sends_to_rooms)

    async def join(self, sid: str, rooms: Collection[str], namespace: str = "/") -> None:
        """Enter rooms with a socket of this instance, all at once; see `enter_room`."""
        mine = []
        try:
            for room in rooms:
                key = (sid, room)
                member = self.book.get(sid, namespace)
                was_in = member is not None and room in member.rooms
                self.basic_enter_room(sid, namespace, room)
                if not was_in or key in self._joining:
                    self._joining[key] = self._joining.get(key, 0) + 1
                    mine.append(key)
            if self.channels is not None:
                await self.channels.hear(namespace, rooms)
        except BaseException as error:
            if isinstance(error, StateUnavailable):
                self.counters.joins_unconfirmed += 1
            for key in mine:
                self._undo_join(namespace, key)
            raise
        for key in mine:
            self._joining.pop(key, None)

    def _undo_join(self, namespace: str, key: tuple[str, str]) -> None:
        # Of several that wait for the same to be entered, the last to fail takes it back; one that succeeded keeps it.
        waiting = self._joining.get(key)
        if waiting is not None and waiting > 1:
            self._joining[key] = waiting - 1
        elif waiting is not None:
            del self._joining[key]
            self.basic_leave_room(key[0], namespace, key[1])

    async def _enter_elsewhere(self, sid: str, namespace: str, room: str, *, confirmed: bool) -> None:
        message = self._own("enter_room", sid=sid, room=room, namespace=namespace)
        if not confirmed:
            await self._tell(message)
            return
        fault = await self._have_done(sid, message)
        if fault == LimitExceeded.code:
            raise LimitExceeded("the socket is in as many rooms as it may be")
        if fault is not None:
            raise StateUnavailable("It is not certain that the room was entered: try again.")

    async def _have_done(self, sid: str, message: Message) -> Any:
        """Tell the instance that has the socket, wait until it has done it, and return the code of the fault if there
        was one. For a socket that is gone there is nothing to do.
        """
        number = next(self.numbers)
        waiter = CallWaiter()
        self.waiting.add(number, sid, waiter)
        try:
            async with asyncio.timeout(self._join_seconds):
                await self._tell({**message, "confirm": number})
                fault, *_ = await waiter.future
        except SessionGone:
            return None
        except TimeoutError:
            raise StateUnavailable("No instance confirmed that it has done this: try again.") from None
        finally:
            self.waiting.take(number, sid)
        return fault

    async def leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Adds to AsyncPubSubManager.leave_room: as for `enter_room`."""
        if not self.was_here(sid):
            if self.book.get(sid, namespace or "/") is None:
                await self._leave_before_emits(sid, namespace or "/", room)
            await super().leave_room(sid, namespace, room)

    async def _leave_before_emits(self, sid: str, namespace: str, room: str) -> None:
        # In a cluster an emit to the room overtakes what is told on the common channel, which alone is always heard.
        if self._sends_to_rooms and not looks_like_sid(room):
            message = self._own("leave_room", sid=sid, room=room, namespace=namespace)
            await self.publish(self.encode_message(message), room_channel(self.channel, namespace, room))

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        """Adds to AsyncPubSubManager.can_disconnect: as for `enter_room`."""
        return not self.was_here(sid) and bool(await super().can_disconnect(sid, namespace))

    # --- messages that stock's handlers take apart; see inbound.py for when

    async def handle_as_stock(self, method: str, message: Message) -> None:
        handler: Callable[[Message], Awaitable[None]] = getattr(
            self, f"_handle_{method}"
        )  # stubs leave them out
        await handler(message)

    def _evicted(self) -> None:
        self.counters.callbacks_evicted += 1
