"""Rooms over sharded pub/sub: each at the node that owns its slot, and there again whatever becomes of that node.

Most tests play the cluster: lone servers take sharded commands for any slot, and the test says who owns which.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from realtime.errors import StateUnavailable
from realtime.link import Connector, RedisBus, RedisLink, SingleConnector, sharded
from realtime.link.cluster import Address, ClusterConnector, Layout
from realtime.link.sharded import ShardedRooms
from realtime.link.subscriptions import Subscriptions
from realtime.link.words import SHARDED
from realtime.tasks import Supervisor
from sim.processes.cluster import RedisCluster
from sim.processes.redis import RedisServer
from tests.link.lab import proxied, serving
from tests.support.stack import until

RECOVERY = 15.0
"""Generous: for a busy machine."""


@dataclass
class Side:
    """One instance's end of the bus, and the room messages that it got."""

    link: RedisLink
    bus: RedisBus
    got: list[bytes] = field(default_factory=list)

    @property
    def rooms(self) -> ShardedRooms:
        assert self.link.sharded is not None
        return self.link.sharded

    async def hear(self, *rooms: str) -> None:
        self.bus.subscribe(rooms)
        await self.bus.heard(rooms)

    async def hears(self, other: Side, room: str) -> None:
        """Waits until what the other publishes arrives here."""
        message = f"{room} {random.random()}".encode()
        async with asyncio.timeout(RECOVERY):
            while message not in self.got:
                with contextlib.suppress(StateUnavailable):
                    await other.bus.publish_to_room(room, message)
                await asyncio.sleep(0.02)


@dataclass
class Nodes:
    """A cluster that the test plays. ``owners``: the port that owns every slot below each bound."""

    owners: dict[int, int]
    timeout: float = 2.0
    asked: int = 0

    async def layout(self) -> Layout:
        self.asked += 1
        first, layout = 0, list[tuple[int, int, Address]]()
        for bound, port in self.owners.items():
            layout.append((first, bound - 1, ("127.0.0.1", port)))
            first = bound
        return layout

    def node(self, address: Address) -> Redis:
        return SingleConnector(f"redis://127.0.0.1:{address[1]}", timeout=self.timeout).commands()


HALF, ALL = 8192, 16384


@contextlib.asynccontextmanager
async def side(
    connector: Connector, nodes: Nodes | None = None, *, timeout: float = 2.0
) -> AsyncIterator[Side]:
    link = RedisLink(connector, timeout=timeout)
    if nodes is not None:
        nodes.timeout = timeout
        link.sharded = ShardedRooms(nodes, link.publisher, link.subscriber, timeout=timeout)
    it = Side(link, RedisBus(link, max_message_bytes=1000))
    it.bus.listen_to_rooms(it.got.append)
    link.subscriber.listen("common", lambda _message: None)
    supervisor, tasks = Supervisor(), list[asyncio.Task[None]]()

    def supervise(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        tasks.append(supervisor.spawn(name, run))
        return tasks[-1]

    try:
        await link.start(supervise=supervise)
        yield it
    finally:
        await link.close()
        left = [task.get_name() for task in tasks if not task.done()]
        await supervisor.close()
    assert not supervisor.failures, "a task of the link failed"
    assert not left, "a task outlived the link"


def room_in(first: int, bound: int, number: int = 0) -> str:
    """The name of a room with a slot in this range; the next one of that kind for each number."""
    for each in range(10**6):
        name = f"r{each}"
        if first <= key_slot(name.encode()) < bound:
            if not number:
                return name
            number -= 1
    raise AssertionError


def listening(server: RedisServer) -> int:
    """Connections with sharded subscriptions."""
    clients = str(server.execute("CLIENT", "LIST")).splitlines()
    return sum("cmd=ssubscribe" in line or "cmd=sunsubscribe" in line for line in clients)


def connections(server: RedisServer) -> int:
    """Of clients, without the one that asks."""
    clients = str(server.execute("CLIENT", "LIST")).splitlines()
    return sum("flags=M" not in line and "flags=S" not in line for line in clients) - 1


def publishers(server: RedisServer) -> set[str]:
    """Connections that published last to a room."""
    clients = str(server.execute("CLIENT", "LIST")).splitlines()
    return {line.split()[0] for line in clients if "cmd=spublish" in line}


def subscribers(server: RedisServer, room: str) -> int:
    reply = server.execute("PUBSUB", "SHARDNUMSUB", room)
    assert isinstance(reply, list)
    return int(reply[1])


@pytest.fixture
def no_routine_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is asked for only when something is wrong."""
    monkeypatch.setattr(sharded, "LAYOUT_SECONDS", 1e9)


@pytest.fixture(scope="module")
def pair_of_servers(redis_binary: Path) -> Iterator[list[RedisServer]]:
    with RedisServer(binary=redis_binary) as one, RedisServer(binary=redis_binary) as two:
        yield [one, two]


# On a cluster that the test plays.


async def test_a_node_is_connected_to_while_its_rooms_are_wanted(pair_of_servers: list[RedisServer]) -> None:
    one, two = pair_of_servers
    nodes = Nodes({HALF: one.port, ALL: two.port})
    low, high, lower = room_in(0, HALF), room_in(HALF, ALL), room_in(0, HALF, 1)
    async with side(SingleConnector(one.url), nodes) as it:
        assert (listening(one), listening(two)) == (0, 0)
        await it.hear(low, lower)
        assert (listening(one), listening(two)) == (1, 0)
        await it.hear(high)
        assert (listening(one), listening(two)) == (1, 1)
        it.bus.unsubscribe([low])
        await until(lambda: subscribers(one, low) == 0)
        assert listening(one) == 1
        it.bus.unsubscribe([lower])
        await until(lambda: listening(one) == 0)
        await it.hear(low, high)
        assert (listening(one), listening(two)) == (1, 1)
        await it.bus.publish_to_room(high, b"x")
        await until(lambda: it.got == [b"x"])
    await until(lambda: connections(one) == connections(two) == 0)


async def test_a_room_keeps_its_order(pair_of_servers: list[RedisServer]) -> None:
    one, two = pair_of_servers
    nodes = Nodes({HALF: one.port, ALL: two.port})
    rooms = [f"r{number}" for number in range(20)]
    async with side(SingleConnector(one.url), nodes) as ear, side(SingleConnector(one.url), nodes) as mouth:
        await ear.hear(*rooms)
        await asyncio.gather(
            *(
                mouth.bus.publish_to_room(room, f"{room} {number}".encode())
                for number in range(30)
                for room in rooms
            )
        )
        await until(lambda: len(ear.got) == 600)
    for room in rooms:
        mine = [message.decode() for message in ear.got if message.decode().split()[0] == room]
        assert mine == [f"{room} {number}" for number in range(30)]


@pytest.mark.usefixtures("no_routine_looks")
async def test_a_node_that_hangs_confirms_nothing_and_is_followed_to_its_heir(
    pair_of_servers: list[RedisServer],
) -> None:
    one, two = pair_of_servers
    room, later = room_in(0, HALF), room_in(0, HALF, 1)
    async with proxied(two.port) as between:
        nodes = Nodes({ALL: between.port})
        connector = SingleConnector(one.url)
        async with side(connector, nodes, timeout=0.4) as ear, side(connector, nodes, timeout=0.4) as mouth:
            await ear.hear(room)
            await ear.hears(mouth, room)
            between.silent = True
            ear.bus.subscribe([later])
            async with asyncio.timeout(RECOVERY):
                with pytest.raises(StateUnavailable):
                    await ear.bus.heard([later])
                with pytest.raises(StateUnavailable):
                    await mouth.bus.publish_to_room(room, b"x")
            await until(lambda: not ear.rooms._is_heard(room), RECOVERY)
            nodes.owners = {ALL: one.port}
            await ear.bus.heard([room, later])
            await ear.hears(mouth, room)
            await ear.hears(mouth, later)
            assert subscribers(one, room) == subscribers(one, later) == 1
            await until(lambda: len(ear.rooms._shards) == len(mouth.rooms._shards) == 1)


@pytest.mark.usefixtures("no_routine_looks")
async def test_a_connection_that_was_lost_is_made_up_for(pair_of_servers: list[RedisServer]) -> None:
    one, two = pair_of_servers
    room = room_in(0, ALL)
    async with proxied(two.port) as between:
        nodes = Nodes({ALL: between.port})
        async with side(SingleConnector(one.url), nodes) as it:
            await it.hear(room)
            await it.bus.publish_to_room(room, b"before")
            between.cut()
            await until(lambda: not it.rooms._is_heard(room))
            await it.bus.heard([room])
            await it.bus.publish_to_room(room, b"after")
            await until(lambda: it.got == [b"before", b"after"])


async def test_the_publisher_connects_anew_when_the_subscription_was_lost_not_when_it_was_given_up(
    pair_of_servers: list[RedisServer],
) -> None:
    one, two = pair_of_servers
    room = room_in(0, ALL)
    async with side(SingleConnector(one.url), Nodes({ALL: two.port})) as it:
        await it.hear(room)
        await it.bus.publish_to_room(room, b"a")
        first = publishers(two)
        it.bus.unsubscribe([room])
        await until(lambda: listening(two) == 0)
        await it.hear(room)
        await it.bus.publish_to_room(room, b"b")
        assert publishers(two) == first
        two.execute("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not it.rooms._is_heard(room))
        await it.bus.heard([room])
        await it.bus.publish_to_room(room, b"c")
        assert len(publishers(two)) == 1
        assert publishers(two) != first


async def test_rooms_are_confirmed_only_when_all_are_heard_at_once(
    pair_of_servers: list[RedisServer],
) -> None:
    one, two = pair_of_servers
    here, there = room_in(0, HALF), room_in(HALF, ALL)
    async with proxied(two.port) as between:
        nodes = Nodes({HALF: between.port})
        async with side(SingleConnector(one.url), nodes) as it:
            it.bus.subscribe([here, there])
            both = asyncio.create_task(it.rooms.heard([here, there], RECOVERY))
            await until(lambda: it.rooms._is_heard(here))
            between.silent = True
            between.cut()
            await until(lambda: not it.rooms._is_heard(here))
            nodes.owners = {HALF: between.port, ALL: one.port}
            await it.bus.heard([there])
            await asyncio.sleep(0)
            assert not both.done()
            between.silent = False
            between.cut()
            await both
            assert it.rooms._is_heard(here)


async def test_a_node_that_does_not_know_that_it_lost_its_slots_is_left(
    pair_of_servers: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from its cluster, but not from us: it takes everything, says nothing, and nobody else hears it."""
    monkeypatch.setattr(sharded, "LAYOUT_SECONDS", 0.3)
    one, two = pair_of_servers
    nodes = Nodes({ALL: two.port})
    room = room_in(0, ALL)
    async with side(SingleConnector(one.url), nodes) as it:
        await it.hear(room)
        await it.hears(it, room)
        nodes.owners = {ALL: one.port}
        await until(lambda: subscribers(one, room) == 1)
        await until(lambda: connections(two) == 0)
        await it.hears(it, room)


@pytest.mark.usefixtures("no_routine_looks")
async def test_a_slot_without_an_owner_is_asked_for_by_who_listens_or_publishes(
    pair_of_servers: list[RedisServer],
) -> None:
    one, _ = pair_of_servers
    nodes, room = Nodes({HALF: one.port}), room_in(HALF, ALL)
    connector = SingleConnector(one.url)
    async with side(connector, nodes, timeout=0.2) as ear, side(connector, nodes, timeout=0.2) as mouth:
        ear.bus.subscribe([room])
        with pytest.raises(StateUnavailable):
            await ear.bus.heard([room])
        with pytest.raises(StateUnavailable):
            await mouth.bus.publish_to_room(room, b"x")
        nodes.owners = {ALL: one.port}
        await ear.bus.heard([room])
        await ear.hears(mouth, room)


async def test_what_a_node_says_of_a_room_that_is_not_wanted_there_any_more_is_not_heard(
    pair_of_servers: list[RedisServer],
) -> None:
    """As the replica of the new owner it would say the same once more, until it has been told to stop."""
    one, two = pair_of_servers
    room, stays = room_in(0, ALL), room_in(0, ALL, 1)
    async with side(SingleConnector(one.url), Nodes({ALL: two.port})) as it:
        await it.hear(room, stays)
        it.bus.unsubscribe([room])  # the server does not know it yet
        assert two.execute("SPUBLISH", room, "again") == 1
        await it.bus.publish_to_room(stays, b"x")
        await until(lambda: b"x" in it.got)
        assert it.got == [b"x"]


async def test_whoever_waits_for_a_room_that_is_given_up_is_told_at_once() -> None:
    nodes = Nodes({})
    link = RedisLink(SingleConnector("redis://127.0.0.1:1"))
    it = ShardedRooms(nodes, link.publisher, link.subscriber)
    it.want(["r"])
    waiting = asyncio.create_task(it.heard(["r"], 60))
    await asyncio.sleep(0)
    it.unwant(["r"])
    with pytest.raises(StateUnavailable):
        await asyncio.wait_for(waiting, 5)
    assert not it._rooms
    assert not it._placed


@pytest.mark.usefixtures("no_routine_looks")
async def test_nodes_that_contradict_each_other_are_not_asked_in_a_busy_loop(
    pair_of_servers: list[RedisServer],
) -> None:
    asked, ports = 0, list[int]()
    room = room_in(0, ALL)

    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        me = writer.get_extra_info("sockname")[1]
        await reader.read(65536)
        writer.write(b"+OK\r\n+OK\r\n")
        while piece := await reader.read(65536):
            asked += piece.count(b"SSUBSCRIBE")
            other = next(port for port in ports if port != me)
            slot = key_slot(room.encode())
            writer.write(b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, other) * piece.count(b"SSUBSCRIBE"))

    async with serving(deny) as first, serving(deny) as second:
        ports += [first, second]
        async with side(SingleConnector(pair_of_servers[0].url), Nodes({ALL: first}), timeout=0.5) as it:
            it.bus.subscribe([room])
            with pytest.raises(StateUnavailable):
                await it.bus.heard([room])
    assert 2 <= asked < 20


async def test_servers_without_sharded_channels_carry_rooms_as_before(
    redis_binary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = {"rename-command SSUBSCRIBE": '""', "rename-command SPUBLISH": '""'}
    rooms = [room_in(0, HALF), room_in(HALF, ALL), room_in(0, HALF, 1)]
    with caplog.at_level(logging.INFO), RedisServer(binary=redis_binary, options=unknown) as old:
        nodes, connector = Nodes({ALL: old.port}), SingleConnector(old.url)
        async with side(connector, nodes) as ear, side(connector, nodes) as mouth:
            await ear.hear(*rooms[:2])
            await asyncio.gather(*(mouth.bus.publish_to_room(rooms[0], b"%d" % n) for n in range(50)))
            await until(lambda: len(ear.got) == 50)
            assert ear.got == [b"%d" % number for number in range(50)]
            await ear.hear(rooms[2])
            await ear.hears(mouth, rooms[1])
            await ear.hears(mouth, rooms[2])
            await until(lambda: not ear.rooms._shards and not mouth.rooms._shards)
            ear.bus.unsubscribe(rooms)
            await until(lambda: old.execute("PUBSUB", "CHANNELS") == ["common"])
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2, warnings  # one of each side
    assert all("know no sharded pub/sub" in warning for warning in warnings)


# On a real cluster.


@pytest.fixture(scope="module")
def cluster(redis_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(binary=redis_binary, options={"cluster-require-full-coverage": "no"}) as made:
        yield made


def home(number: int) -> tuple[int, int]:
    """The slots that a node has at first, without those that tests move."""
    return ALL * number // 3, ALL * (number + 1) // 3


def give(slot: int, giver: str, to: RedisServer, tell: list[RedisServer]) -> None:
    """As redis-cli moves a slot: it is the import that gives the new owner the later epoch."""
    name = str(to.execute("CLUSTER", "MYID"))
    to.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", giver)
    for node in (to, *tell):
        node.execute("CLUSTER", "SETSLOT", slot, "NODE", name)


def crossings(cluster: RedisCluster) -> int:
    """Messages of pub/sub that nodes sent each other."""
    lines = [line for node in cluster.nodes for line in str(node.execute("CLUSTER", "INFO")).splitlines()]
    return sum(
        int(line.split(":")[1])
        for line in lines
        if line.startswith("cluster_stats_messages_publish") and "_sent" in line
    )


@pytest.mark.e2e
async def test_a_rooms_messages_stay_at_one_node_and_with_those_who_joined(cluster: RedisCluster) -> None:
    first, second, third = cluster.nodes
    room, other = room_in(*home(0)), room_in(*home(1))
    connector = ClusterConnector(cluster.url, "{tag}")
    async with side(connector) as one, side(connector) as two, side(connector) as mouth:
        await one.hear(room)
        await two.hear(room, other)
        before = crossings(cluster)
        for number in range(20):
            await mouth.bus.publish_to_room(room, b"a%d" % number)
            await mouth.bus.publish_to_room(other, b"b%d" % number)
        await until(lambda: len(one.got) == 20 and len(two.got) == 40)
        assert one.got == [b"a%d" % number for number in range(20)]
        assert crossings(cluster) == before
        await mouth.bus.publish("common", b"x")
        assert crossings(cluster) > before  # so that is what it looks like
        assert [listening(node) for node in cluster.nodes] == [2, 1, 0]
        assert (subscribers(first, room), subscribers(second, other)) == (2, 1)
    await until(lambda: [listening(node) for node in (first, second, third)] == [0, 0, 0])


@pytest.mark.e2e
@pytest.mark.usefixtures("no_routine_looks")
async def test_a_slot_that_moves_takes_its_rooms_along(cluster: RedisCluster) -> None:
    old, new, _ = cluster.nodes
    room, stays = room_in(*home(0), 1), room_in(*home(0), 2)
    connector = ClusterConnector(cluster.url, "{tag}")
    async with side(connector, timeout=1) as ear, side(connector) as mouth, side(connector) as late:
        await ear.hear(room, stays)
        await mouth.bus.publish_to_room(room, b"x")
        give(key_slot(room.encode()), str(old.execute("CLUSTER", "MYID")), new, [old])
        await late.hear(room)  # it thinks of the old owner, and is told
        await ear.hears(mouth, room)
        await until(lambda: bool(late.got) and not mouth.got)
        assert (subscribers(old, room), subscribers(new, room)) == (0, 2)
        assert subscribers(old, stays) == 1
        assert [len(each.rooms._shards) for each in (ear, mouth, late)] == [2, 2, 2]
        await ear.hear(room_in(*home(0), 3))  # no answer is waited for in vain
        shards = [each._subscriber for each in ear.rooms._shards.values()]
        assert [one[0].reconnects for one in shards if one is not None] == [0, 0]
        assert listening(old) == 1  # late has nothing there any more


@pytest.mark.e2e
@pytest.mark.usefixtures("no_routine_looks")
async def test_an_owner_that_died_has_an_heir_and_comes_back_without_its_slot(cluster: RedisCluster) -> None:
    dead, heir, other = cluster.nodes[2], cluster.nodes[0], cluster.nodes[1]
    room, lost = room_in(*home(2)), room_in(*home(2), 1)
    connector = ClusterConnector(cluster.url, "{tag}", timeout=0.5)
    name = str(dead.execute("CLUSTER", "MYID"))
    async with side(connector, timeout=0.5) as ear, side(connector, timeout=0.5) as mouth:
        await ear.hear(room, lost)
        await ear.hears(mouth, room)
        dead.kill()
        await until(lambda: not ear.rooms._is_heard(room))
        async with asyncio.timeout(RECOVERY):
            with pytest.raises(StateUnavailable):
                await ear.bus.heard([room])
            with pytest.raises(StateUnavailable):
                await mouth.bus.publish_to_room(room, b"x")
        give(key_slot(room.encode()), name, heir, [other])
        await ear.hears(mouth, room)
        await asyncio.to_thread(dead.start)
        await ear.hears(mouth, lost)
        await ear.hears(mouth, room)
        await until(lambda: (subscribers(dead, room), subscribers(heir, room)) == (0, 1), RECOVERY)
        await ear.hears(mouth, room)


# The bookkeeping alone.


async def test_a_channel_that_redis_drops_is_asked_for_again() -> None:
    it = Subscriptions(SHARDED)
    it.want(["r", "s"])
    it.begin()
    it.replied(b"r")
    it.replied(b"s")
    await it.heard(["r", "s"], 0)
    it.unsubscribed(b"r")
    with pytest.raises(StateUnavailable):
        await it.heard(["r"], 0)
    assert it.take() == [("SSUBSCRIBE", b"r")]
    it.refused(lambda channel: channel == b"r")
    assert it.answered.is_set()
    with pytest.raises(StateUnavailable):
        await it.heard(["r"], 0)
    await it.heard(["s"], 0)
    assert it.take() == []  # not before it is wanted again
    it.want(["r"])
    assert it.take() == [("SSUBSCRIBE", b"r")]
    it.replied(b"r")
    await it.heard(["r"], 0)
