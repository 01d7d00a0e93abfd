"""What comes in over the bus: a bounded queue, one task, and what each kind of message means."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from socketio.packet import Packet

from realtime.errors import Close, LimitExceeded, MessageTooLarge, RealtimeError

from .calls import Question, RemoteAsker
from .delivery import logger
from .json_text import loads
from .lanes import Lane

if TYPE_CHECKING:
    from .manager import Message, WireManager

_PICKLE = b"\x80"
_TURNS = 64
_ANSWER_TOO_LARGE = "The client's answer is too large to be carried between instances: ask for less at once."


class Inbound:
    """Replaces AsyncPubSubManager._thread: stock handles messages in a task that nobody watches, without a
    bound.

    Messages are handled in the order in which they came. Whatever is wrong with one is counted and logged,
    and the next one is handled. Three methods are this package's own, which stock instances ignore: `gone`
    tells a host that the socket it asked has closed or, by a `code`, that its answer cannot be carried;
    `forget` takes a question back; `close` closes a socket with a reason.
    """

    def __init__(self, manager: WireManager, *, limit: int, limit_bytes: int) -> None:
        self._manager = manager
        self._lane = Lane(limit=limit, limit_weight=limit_bytes, raised=self._raised, lost=self._lost)
        self._own = b'{"host_id":"' + manager.host_id.encode() + b'"'
        self._stopped = False
        self._told_of_pickle = False
        self._methods: dict[str, Callable[[Message], Awaitable[None]]] = {
            "emit": self._emit,
            "callback": self._callback,
            "gone": self._gone,
            "forget": self._forget,
            "close": self._close,
            "enter_room": self._enter_room,
            "leave_room": self._leave_room,
            **{name: partial(self._stock, name) for name in ("disconnect", "close_room")},
        }

    def receive(self, message: bytes) -> None:
        """A message came; never waits and never raises."""
        if self._stopped or message.startswith(self._own):
            return
        manager = self._manager
        manager.counters.bus_received += 1
        if not self._lane.put(partial(self._handle, message), weight=len(message)):
            manager.counters.bus_inbound_dropped += 1
            manager.quiet.warning(
                "inbound", "Messages of other instances come faster than this one handles them."
            )

    def receive_for_room(self, message: bytes) -> None:
        """As `receive`, over a room's channel."""
        if not self._stopped and not message.startswith(self._own):
            self._manager.counters.rooms_received += 1
            self.receive(message)

    async def stop(self, timeout: float) -> None:
        self._stopped = True
        await self._lane.stop(timeout)

    def asker(self, question: Question) -> RemoteAsker:
        """Who is to be told of the answer to a question that came over the bus, or went through a room."""
        return RemoteAsker(question, self._answered, self._unanswered)

    async def _handle(self, encoded: bytes) -> None:
        counters = self._manager.counters
        if counters.bus_received % _TURNS == 0:
            await asyncio.sleep(0)  # a flood of messages must not keep the loop from its sockets
        if encoded.startswith(_PICKLE):
            counters.bus_pickle += 1
            if not self._told_of_pickle:
                self._told_of_pickle = True
                logger.error(
                    "Something sends pickle on bus channel %r and is not heard: pickle can run code and is never read. "
                    "It is a python-socketio older than 5.14; upgrade it, or give it another channel.",
                    self._manager.channel,
                )
            return
        message = loads(encoded.decode())
        if not isinstance(message, dict):
            raise ValueError("not an object")
        method = _text(message, "method")
        handler = self._methods.get(method)
        if handler is None:
            return
        # A callback and a `gone` name the host they are meant for, everything else the host it comes from.
        if (message.get("host_id") == self._manager.host_id) == (method in ("callback", "gone")):
            message.setdefault("namespace", "/")
            await handler(message)

    async def _emit(self, message: Message) -> None:
        """Replaces AsyncPubSubManager._handle_emit: fields are checked, an asked sid that just left,
        or is not in the room of our field `member_of`, is reported.
        """
        args = message["data"]
        if message.get("binary"):
            args = Packet.reconstruct_binary(args[0], [base64.b64decode(each) for each in args[1:]])
        if isinstance(args, list):
            args = args[0] if len(args) == 1 else tuple(args)
        room, skip = message.get("room"), message.get("skip_sid")
        if isinstance(room, list):
            room = [each for each in room if isinstance(each, str)]
        elif room is not None and not isinstance(room, str):
            raise ValueError("room")
        if isinstance(skip, list):
            skip = [each for each in skip if isinstance(each, str)]
        asker = None
        if message.get("callback") is not None:
            asked, namespace, number = message["callback"]
            if not isinstance(asked, str) or not isinstance(namespace, str):
                raise ValueError("callback")
            asker = self.asker(Question(_text(message, "host_id"), asked, namespace, number))
            member = self._manager.book.get(asked, namespace)
            lost = member is not None and self._manager.may_not_ask(member, message.get("member_of"))
            if room == asked and (lost or self._manager.was_here(asked)):
                asker.gone(asked)
                return
        event, namespace = _text(message, "event"), message["namespace"] or "/"
        self._manager.deliver(event, args, namespace, room, skip, asker)

    async def _callback(self, message: Message) -> None:
        """Replaces AsyncPubSubManager._handle_callback, which finds callbacks of any room under an id."""
        args = message["args"]
        if message.get("binary"):
            args = Packet.reconstruct_binary(args[0], [base64.b64decode(each) for each in args[1:]])
        self._settle(_text(message, "sid"), message["id"], args)

    async def _gone(self, message: Message) -> None:
        sid = _text(message, "sid")
        asker = self._manager.waiting.take(message["id"], sid)
        if asker is None:
            return
        if message.get("code") == MessageTooLarge.code:
            asker.gone(sid, MessageTooLarge(_ANSWER_TOO_LARGE))
        else:
            asker.gone(sid)

    async def _forget(self, message: Message) -> None:
        member = self._manager.book.get(_text(message, "sid"), message["namespace"])
        if member is None:
            return
        question = Question(_text(message, "host_id"), member.sid, member.namespace, message["id"])
        for number, asker in list(member.asks.items()):
            if isinstance(asker, RemoteAsker) and asker.question == question:
                del member.asks[number]

    async def _close(self, message: Message) -> None:
        sid = _text(message, "sid")
        member = self._manager.book.live(sid, message["namespace"])
        if member is not None:
            self._manager.server.close_connection(member.eio_sid, Close[_text(message, "close")])
        self._confirm_done(message)

    async def _leave_room(self, message: Message) -> None:
        """Adds to AsyncPubSubManager._handle_leave_room: it can be confirmed."""
        await self._stock("leave_room", message)
        self._confirm_done(message)

    def _confirm_done(self, message: Message) -> None:
        """Whoever gave a number for `confirm`, our own field, is answered by the instance that has the socket, or had
        it until just now.
        """
        number, sid, namespace = message.get("confirm"), message["sid"], message["namespace"]
        if number is None:
            return
        question = Question(_text(message, "host_id"), sid, namespace, number)
        if self._manager.was_here(sid):
            self._unanswered(question)
        elif self._manager.book.get(sid, namespace) is not None:
            self._answered(question, [None])

    async def _stock(self, method: str, message: Message) -> None:
        for field in ("namespace", *(("sid",) if method != "close_room" else ())):
            _text(message, field)
        if method != "disconnect":
            _text(message, "room")
        await self._manager.handle_as_stock(method, message)

    async def _enter_room(self, message: Message) -> None:
        """Replaces AsyncPubSubManager._handle_enter_room: whoever gave a number for `confirm`, our own field, is
        answered when the room's channel is heard.

        The room is entered at once, for what came before it on the common channel was meant without it and what
        follows with it. It stays entered if it is not confirmed in time: the bus goes on trying, and a stock instance
        that asked would not learn of it.
        """
        manager = self._manager
        sid, namespace, room = _text(message, "sid"), _text(message, "namespace"), _text(message, "room")
        number, question = message.get("confirm"), None
        if number is not None:
            question = Question(_text(message, "host_id"), sid, namespace, number)
        if manager.book.live(sid, namespace) is None:
            if question is not None and manager.was_here(sid):
                self._unanswered(question)
            return
        try:
            manager.basic_enter_room(sid, namespace, room)
        except LimitExceeded as error:
            manager.quiet.warning("rooms", "Another instance asked for one room too many: %s", error)
            self._entered(question, error.code)
            return
        if manager.channels is not None:
            manager.channels.want(namespace, [room])
            manager.tasks.spawn(self._confirm(namespace, room, question))

    async def _confirm(self, namespace: str, room: str, question: Question | None) -> None:
        assert self._manager.channels is not None
        try:
            await self._manager.channels.hear(namespace, [room])
        except RealtimeError as error:
            self._manager.counters.joins_unconfirmed += 1
            self._manager.quiet.warning("joins", "A room that another instance had entered: %s", error)
            self._entered(question, error.code)
        else:
            self._entered(question, None)

    def _entered(self, question: Question | None, fault: str | None) -> None:
        if question is not None:
            self._answered(question, [fault])

    def _answered(self, question: Question, args: Sequence[Any]) -> None:
        """Replaces AsyncPubSubManager._return_callback: does not make the reader of packets wait for the bus,
        and carries binary arguments (in a form that stock hosts do not understand; stock cannot send them at
        all).
        """
        if question.host_id == self._manager.host_id:
            self._settle(question.room, question.id, args)
            return
        answer: Message = {"method": "callback", "host_id": question.host_id, "sid": question.room}
        answer |= {"namespace": question.namespace, "id": question.id, "args": list(args)}
        if Packet.data_is_binary(answer["args"]):
            plain, attachments = Packet.deconstruct_binary(answer["args"])
            answer["args"] = [plain, *[base64.b64encode(each).decode() for each in attachments]]
            answer["binary"] = True
        instead = None
        if self._manager.is_sid_room(question.namespace, question.room):  # in a room others may still answer
            instead = {**_gone_message(question), "code": MessageTooLarge.code}
        self._manager.post_message(answer, if_too_large=instead)

    def _unanswered(self, question: Question) -> None:
        if question.host_id != self._manager.host_id:
            self._manager.post_message(_gone_message(question))

    def _settle(self, room: str, number: Any, args: Sequence[Any]) -> None:
        asker = self._manager.waiting.take(number, room)
        if asker is None:
            self._manager._unknown_ack(room, number)
        else:
            self._manager._answer(asker, args)

    def _raised(self, error: BaseException) -> None:
        self._manager.counters.bus_malformed += 1
        self._manager.quiet.warning("malformed", "A message on the bus could not be understood: %r", error)

    def _lost(self) -> None:
        self._manager.counters.bus_listener_restarts += 1
        logger.error("The task that handles messages of other instances was ended; it starts again.")


def _gone_message(question: Question) -> Message:
    lost = {"method": "gone", "sid": question.room, "namespace": question.namespace}
    return {**lost, "host_id": question.host_id, "id": question.id}


def _text(message: Message, field: str) -> str:
    value = message[field]
    if not isinstance(value, str):
        raise ValueError(f"{field} is not a text")
    return value
