"""Who has joined hears, who has left does not: joins, leaves, emits and disconnects in any order on two instances."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtime.link import RedisBus, RedisLink, SingleConnector
from realtime.tasks import Supervisor

from .lab import Instance, Polling, Websocket, parsed, serving, until

INSTANCES, EARS, ROOMS = 2, 4, 2
LATE = 0.002

at, ear, room = st.integers(0, INSTANCES - 1), st.integers(0, EARS - 1), st.integers(0, ROOMS - 1)
steps = st.one_of(
    st.tuples(st.just("join"), ear, room, at),
    st.tuples(st.just("join"), ear, room, at),
    st.tuples(st.just("leave"), ear, room, at),
    st.tuples(st.just("emit"), at, st.sets(room, min_size=1), st.just(0)),
    st.tuples(st.just("emit"), at, st.sets(room, min_size=1), st.just(0)),
    st.tuples(st.just("end"), ear, st.sampled_from(["by the server", "by the client"]), st.just(0)),
)
together = st.lists(steps, min_size=1, max_size=4)
Step = tuple[Any, Any, Any, Any]


class LateBus(RedisBus):
    """Begins to subscribe some time after it was asked, so that whoever does not wait for it misses something."""

    def __init__(self, link: RedisLink) -> None:
        super().__init__(link, max_message_bytes=1 << 20)
        self._late: set[str] = set()

    def subscribe(self, channels: Iterable[str]) -> None:
        late = set(channels)
        self._late |= late
        asyncio.get_running_loop().call_later(LATE, self._begin, late)

    def _begin(self, late: set[str]) -> None:
        self._late -= late
        super().subscribe(late)

    async def heard(self, channels: Collection[str]) -> None:
        await until(lambda: self._late.isdisjoint(channels))
        await super().heard(channels)


@asynccontextmanager
async def instance_on(url: str, channel: str) -> AsyncIterator[Instance]:
    link, supervisor = RedisLink(SingleConnector(url)), Supervisor()
    try:
        async with serving(LateBus(link), manager_options={"channel": channel}) as instance:
            await link.start(supervise=supervisor.spawn)
            yield instance
    finally:
        await link.close()
        await supervisor.close()


@dataclass
class Ear:
    """A client, what it must hear and what it may: what was emitted while it came or went."""

    home: int
    client: Websocket | Polling
    sid: str = ""
    rooms: set[str] = field(default_factory=set)
    must: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    may: set[int] = field(default_factory=set)
    heard: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    async def receive(self) -> str:
        """The next packet that is no event of the test's."""
        while True:
            packet: str = await self.client.receive()
            if not packet.startswith('42["n"'):
                return packet
            _, sender, number = parsed(packet)
            self.heard[sender].append(number)

    async def connect(self) -> None:
        await self.send("40")
        packet = ""
        while not packet.startswith("40"):
            packet = await self.receive()
        self.sid = parsed(packet)["sid"]
        self.rooms.clear()

    async def send(self, packet: str) -> None:
        await (self.client.post(packet) if isinstance(self.client, Polling) else self.client.send(packet))

    def check(self) -> None:
        for sender, numbers in self.heard.items():
            assert numbers == sorted(set(numbers)), f"out of order or twice, from {sender}"
        for sender in range(INSTANCES):
            certain = [number for number in self.heard[sender] if number not in self.may]
            assert certain == self.must[sender], f"lost, or not for it, from {sender}"


class World:
    """Two instances and their clients, for as many examples as there are."""

    def __init__(self, instances: list[Instance], ears: list[Ear]) -> None:
        self.instances = instances
        self.ears = ears
        self.numbers = itertools.count()
        self.examples = itertools.count()
        self.name = ""

    async def play(self, groups: list[list[Step]]) -> None:
        """Group after group; the steps of a group are begun together."""
        self.name = f"room {next(self.examples)}"  # rooms that nobody has subscribed to yet
        for each in self.ears:
            each.must.clear()
            each.may.clear()
            each.heard.clear()
        for group in groups:
            await self._together(group)
            await self._settle()
        for each in self.ears:
            each.check()
            await asyncio.gather(*(self._leave(each, one, each.home) for one in list(each.rooms)))

    async def _settle(self) -> None:
        """What either instance has told the other has come: to what the other does itself, it has no order."""
        for instance in self.instances:
            await instance.server.emit("settled")
        for each in self.ears:
            for _ in self.instances:
                while await each.receive() != '42["settled"]':
                    pass

    async def _together(self, group: list[Step]) -> None:
        coming = {(step[1], self._room(step[2])) for step in group if step[0] == "join"}
        going = {(step[1], self._room(step[2])) for step in group if step[0] == "leave"}
        ending = {step[1] for step in group if step[0] == "end"}
        going |= {(number, one) for number in ending for one in self.ears[number].rooms}
        coming = {(number, one) for number, one in coming if number not in ending}
        jobs = []
        for kind, who, what, where in group:
            if kind == "emit":
                jobs.append(self._emit(who, {self._room(one) for one in what}, coming, going))
            elif kind == "end" and who in ending:
                ending.discard(who)
                jobs.append(self._end(self.ears[who], what))
            elif kind == "leave":
                jobs.append(self._leave(self.ears[who], self._room(what), where))
            elif (who, self._room(what)) in coming:
                jobs.append(self.instances[where].server.enter_room(self.ears[who].sid, self._room(what)))
        await asyncio.gather(*jobs)
        for number, one in coming - going:
            self.ears[number].rooms.add(one)
        for number, one in going:
            self.ears[number].rooms.discard(one)
        for number, one in coming & going:  # whichever was last
            await self._leave(self.ears[number], one, self.ears[number].home)

    def _room(self, number: int) -> str:
        return f"{self.name} {number}"

    def _emit(self, sender: int, rooms: set[str], coming: set[Any], going: set[Any]) -> Any:
        number = next(self.numbers)
        for which, each in enumerate(self.ears):
            changing = {one for who, one in coming | going if who == which}
            if (each.rooms - changing) & rooms:
                each.must[sender].append(number)
            elif changing & rooms:
                each.may.add(number)
        to = rooms if len(rooms) > 1 else next(iter(rooms))
        return self.instances[sender].server.emit("n", (sender, number), to=to)

    async def _leave(self, each: Ear, one: str, where: int) -> None:
        sid = each.sid
        await self.instances[where].server.leave_room(sid, one)
        if where != each.home:  # which is told, not waited for
            await until(lambda: one not in self.instances[each.home].manager.local_rooms(sid))

    async def _end(self, each: Ear, how: str) -> None:
        server = self.instances[each.home].server
        if how == "by the client":
            await each.send("41")
            await until(lambda: server.is_gone(each.sid))
        else:
            await server.disconnect(each.sid)
            while await each.receive() != "41":
                pass
        await each.connect()


@asynccontextmanager
async def world(url: str, channel: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(instance_on(url, channel)) for _ in range(INSTANCES)]
        ears = list[Ear]()
        for number in range(EARS):
            home = number % INSTANCES
            to = Polling.to if number == EARS - 1 else Websocket.to
            ears.append(Ear(home, await stack.enter_async_context(to(instances[home], connect=False))))
            await ears[-1].connect()
        yield World(instances, ears)


def test_who_has_joined_hears_each_later_emit_once_and_in_order_and_who_has_left_none(
    redis_url: str, redis_prefix: str
) -> None:
    with asyncio.Runner() as runner:
        worlds = world(redis_url, redis_prefix)
        it = runner.run(worlds.__aenter__())

        @settings(max_examples=25)
        @given(groups=st.lists(together, max_size=10))
        @example(groups=[[("join", 0, 0, 0)], [("emit", 1, {0}, 0)]])
        @example(
            groups=[[("join", 0, 0, 1)], [("emit", 1, {0}, 0)] * 3, [("leave", 0, 0, 0), ("emit", 1, {0}, 0)]]
        )
        def check(groups: list[list[Step]]) -> None:
            runner.run(it.play(groups))

        try:
            check()
        finally:
            runner.run(worlds.__aexit__(None, None, None))
