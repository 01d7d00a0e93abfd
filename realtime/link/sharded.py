"""Rooms on a Redis Cluster by sharded pub/sub: each at the node that owns the slot of its channel.

One connection hears and one publishes for each node in use. A node that no longer owns a slot says so: it drops the
channel, and its answer to the next command names the owner. A node that is silent or gone says nothing: then, and now
and then in any case, some node is asked for the whole layout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable
from functools import partial

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import MovedError, ResponseError

from realtime.errors import StateUnavailable

from .closing import described
from .cluster import Address
from .publisher import FIRST_PAUSE, LONGEST_PAUSE, Publisher
from .shard import Nodes, Shard, Supervise
from .subscriber import Receive, Subscriber
from .subscriptions import NOT_CONFIRMED, NOT_WANTED, Subscriptions

log = logging.getLogger(__name__)

LAYOUT_SECONDS = 10.0
"""How often the layout is asked for though nothing seems wrong: a node that is cut off from its cluster, but not from
us, does not know that its slots have another owner."""

NOWHERE: Address = ("", 0)
PLAIN: Address = ("", -1)
"""Stands for all nodes: rooms go over the connections of the common channel."""


class ShardedRooms:
    """Takes the place of a ``Publisher`` and of its ``Subscriptions`` for the channels of rooms.

    Order is kept within a channel. While a slot moves, what is published to the node that it left is refused with
    ``StateUnavailable``, not sent again: it could be overtaken. Servers before 7 know no sharded pub/sub; after their
    first answer all rooms go over ``publisher`` and ``subscriber``, which reach every node.
    """

    def __init__(
        self, nodes: Nodes, publisher: Publisher, subscriber: Subscriber, *, timeout: float = 2.0
    ) -> None:
        self._nodes = nodes
        self._timeout = timeout
        self._plain_publisher = publisher
        self._lasting = {PLAIN: subscriber.rooms, NOWHERE: Subscriptions()}
        self._supervise: Supervise | None = None
        self._is_plain = False
        self._owners = [NOWHERE] * REDIS_CLUSTER_HASH_SLOTS
        self._rooms: dict[int, dict[str, None]] = {}
        """Wanted channels by slot."""
        self._placed: dict[int, Address] = {}
        """At which node the channels of a slot are subscribed to; it follows ``_owners``."""
        self._to_place: set[int] = set()
        self._shards: dict[Address, Shard] = {}
        self._disturbed = asyncio.Event()
        self._ask = True
        self.known = asyncio.Event()
        """Set once a layout is known."""
        self.receive: Receive = lambda _message: None

    def start(self, supervise: Supervise) -> asyncio.Task[None]:
        self._supervise = supervise
        return supervise("redis-shards", self.run)

    async def close(self) -> None:
        """For good, after ``run`` has ended: what comes is refused."""
        self._owners = [NOWHERE] * REDIS_CLUSTER_HASH_SLOTS
        self._placed = dict.fromkeys(self._placed, NOWHERE)
        self._to_place.clear()
        await asyncio.gather(*self._close_unowned(), return_exceptions=True)

    # As a publisher.

    async def publish(self, channel: str, message: bytes) -> None:
        """As ``Publisher.publish``, to those who subscribed to the channel."""
        owner = self._owners[_slot(channel)]
        if owner == PLAIN:
            return await self._plain_publisher.publish(channel, message)
        if owner == NOWHERE:
            self._doubt()
            raise StateUnavailable()
        try:
            await self._shard(owner).publisher.publish(channel, message)
        except StateUnavailable as error:
            if not _is_unknown(error.__cause__):
                raise
            await self._plain_publisher.publish(channel, message)

    # As subscriptions.

    def want(self, channels: Iterable[str]) -> None:
        new: dict[Address, list[str]] = {}
        for channel in channels:
            slot = _slot(channel)
            self._rooms.setdefault(slot, {})[channel] = None
            new.setdefault(self._placed.setdefault(slot, self._owners[slot]), []).append(channel)
        for address, some in new.items():
            self._subscriptions(address).want(some)

    def unwant(self, channels: Iterable[str]) -> None:
        old: dict[Address, list[str]] = {}
        for channel in channels:
            slot = _slot(channel)
            rooms = self._rooms.get(slot, {})
            if channel not in rooms:
                continue
            old.setdefault(self._placed[slot], []).append(channel)
            del rooms[channel]
            if not rooms:
                del self._rooms[slot], self._placed[slot]
        for address, some in old.items():
            self._subscriptions(address).unwant(some)
            self._listen_no_more(address)

    async def heard(self, channels: Collection[str], timeout: float) -> None:
        """As ``Subscriptions.heard``, wherever the channels are meanwhile."""
        try:
            async with asyncio.timeout(timeout):
                while missing := [channel for channel in channels if not self._is_heard(channel)]:
                    for channel in missing:
                        while not self._is_heard(channel):
                            slot = _slot(channel)
                            if channel not in self._rooms.get(slot, ()):
                                raise StateUnavailable(NOT_WANTED)
                            await self._subscriptions(self._placed[slot]).change(channel)
        except TimeoutError:
            raise StateUnavailable(NOT_CONFIRMED) from None

    # Following the slots.

    async def run(self) -> None:
        """Looks where the slots are, at once when something is wrong, until cancelled."""
        loop = asyncio.get_running_loop()
        pause, due = FIRST_PAUSE, loop.time()
        while True:
            self._disturbed.clear()
            if looks := not self._is_plain and (self._in_doubt() or loop.time() >= due):
                await self._look()
                due = loop.time() + LAYOUT_SECONDS
            self._place()
            # Nodes may contradict each other for a while: never in a busy loop.
            await asyncio.sleep(pause)
            if looks or self._is_plain:
                self._place()  # first, or whoever waits there would not learn of it
                self._close_unowned()
            pause = min(LONGEST_PAUSE, 2 * pause) if self._disturbed.is_set() else FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_PAUSE):
                    await self._disturbed.wait()

    def _in_doubt(self) -> bool:
        return (
            self._ask
            or NOWHERE in self._placed.values()
            or not all(shard.is_well for shard in self._shards.values())
        )

    async def _look(self) -> None:
        owners = [NOWHERE] * REDIS_CLUSTER_HASH_SLOTS
        try:
            async with asyncio.timeout(self._timeout):
                for first, last, owner in await self._nodes.layout():
                    owners[first : last + 1] = [owner] * (last + 1 - first)
        except Exception as error:
            log.debug("who owns the cluster's slots cannot be asked: %s", described(error))
            return
        self._ask = False
        self.known.set()
        if not self._is_plain:
            self._take_over(owners)

    def _take_over(self, owners: list[Address]) -> None:
        self._owners = owners
        self._to_place.update(slot for slot, address in self._placed.items() if address != owners[slot])

    def _place(self) -> None:
        """Moves what is subscribed to in the wrong place, and asks again for what was refused in the right one."""
        while self._to_place:
            slot = self._to_place.pop()
            channels = list(self._rooms.get(slot, ()))
            if not channels:
                continue
            old, new = self._placed[slot], self._owners[slot]
            self._placed[slot] = new
            self._subscriptions(new).want(channels)
            if new != old:
                self._subscriptions(old).unwant(channels)
                self._listen_no_more(old)

    def _refused(self, address: Address, refusal: ResponseError) -> bool:
        """Whether it is dealt with."""
        if isinstance(refusal, MovedError):
            slot = refusal.slot_id
            if address in self._shards:
                self._shards[address].refused(lambda channel: key_slot(channel) == slot)
            if address == self._owners[slot]:  # others may not know yet
                # Of itself a node that knows no name for another says nothing but the port.
                self._owners[slot] = (
                    (refusal.host if refusal.host not in ("", "?") else address[0]),
                    refusal.port,
                )
            self._to_place.add(slot)
            self._disturbed.set()
            return True
        if _is_unknown(refusal):
            self._fall_back()
            return True
        self._doubt()
        return False

    def _doubt(self) -> None:
        self._ask = True
        self._disturbed.set()

    def _fall_back(self) -> None:
        if self._is_plain:
            return
        log.warning(
            "The cluster's servers know no sharded pub/sub (Redis 7 does): every node gets every room's messages. "
            "When they have been replaced, restart all instances."
        )
        self._is_plain = True
        self._take_over([PLAIN] * REDIS_CLUSTER_HASH_SLOTS)
        self._place()
        self._disturbed.set()

    # Connections.

    def _is_heard(self, channel: str) -> bool:
        address = self._placed.get(_slot(channel), NOWHERE)
        return self._subscriptions(address).is_heard(channel)

    def _subscriptions(self, address: Address) -> Subscriptions:
        lasting = self._lasting.get(address)  # not "or": one without rooms is false
        return self._shard(address).rooms if lasting is None else lasting

    def _shard(self, address: Address) -> Shard:
        shard = self._shards.get(address)
        if shard is None:
            assert self._supervise is not None, "no owner is known before the start"
            shard = self._shards[address] = Shard(
                self._nodes,
                address,
                timeout=self._timeout,
                supervise=self._supervise,
                receive=lambda message: self.receive(message),
                on_refusal=partial(self._refused, address),
            )
        return shard

    def _listen_no_more(self, address: Address) -> None:
        """If no room is wanted there."""
        if address in self._shards:
            self._shards[address].listen_no_more()

    def _close_unowned(self) -> list[asyncio.Task[None]]:
        """Gives up nodes that own no slot any more."""
        ending = []
        for address in self._shards.keys() - set(self._owners):
            ending += self._shards.pop(address).close()
        return ending


def _slot(channel: str) -> int:
    return int(key_slot(channel.encode()))


def _is_unknown(error: BaseException | None) -> bool:
    return isinstance(error, ResponseError) and str(error).lower().startswith("unknown command")
