"""Rooms' channels over a real Redis: confirmed, batched, heard again after a loss, given up."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import fakeredis
import pytest

from realtime.errors import MessageTooLarge, StateUnavailable
from realtime.link import RedisBus, SingleConnector
from realtime.link.subscriptions import Subscriptions
from sim.processes.redis import RedisServer
from tests.link.lab import linked, proxied
from tests.support.stack import client, make_settings, running, until


def numsub(server: RedisServer, channel: str) -> int:
    return int(server.execute("PUBSUB", "NUMSUB", channel)[1])


async def test_only_an_instance_with_members_is_sent_a_rooms_messages(redis_server: RedisServer) -> None:
    settings = [make_settings(redis_server.url) for _ in range(3)]
    async with (
        running(settings[0]) as one,
        running(settings[1]) as two,
        running(settings[2]) as three,
        client(two.url, "ann") as ann,
    ):
        before = three.server.wire.counters.bus_received
        for number in range(20):
            await one.server.wire.emit("n", number, room="user:ann")
        await until(lambda: ann.of("n") == list(range(20)))
        assert three.server.wire.counters.bus_received == before
        assert two.server.wire.counters.rooms_received == 20
        assert numsub(redis_server, "socketio#/,user:ann") == 1
        assert not [name for name in redis_server.execute("PUBSUB", "CHANNELS") if "~" in name]


async def test_whoever_was_let_in_misses_nothing_that_another_instance_emits_then(
    redis_server: RedisServer,
) -> None:
    """Joins by signing in and by ``enter_room_for_users``, from both sides, in random order."""
    settings = [make_settings(redis_server.url) for _ in range(2)]
    order = random.Random(4)
    async with running(settings[0]) as one, running(settings[1]) as two:

        async def visit(number: int) -> None:
            home, other = order.sample([one, two], 2)
            user = f"u{number}"
            async with client(home.url, user) as guest:
                await other.server.wire.emit("x", "signed in", room=f"user:{user}")
                asked = order.choice([one, two])
                await asked.server.enter_room_for_users(f"room {number}", [user])
                await order.choice([one, two]).server.wire.emit("x", "entered", room=f"room {number}")
                await asked.server.leave_room_for_users(f"room {number}", [user])
                await asked.server.enter_room_for_users(f"room {number}", [user])
                await other.server.wire.emit("x", "entered again", room=f"room {number}")
                await until(lambda: guest.of("x") == ["signed in", "entered", "entered again"])

        for at in range(0, 30, 10):
            await asyncio.gather(*(visit(number) for number in range(at, at + 10)))


async def test_after_a_loss_every_room_is_heard_again_before_it_counts_as_connected(
    redis_server: RedisServer,
) -> None:
    heard: list[bytes] = []
    async with proxied(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with linked(SingleConnector(url), listens="common") as link:
            bus = RedisBus(link, max_message_bytes=1000)
            bus.listen_to_rooms(heard.append)
            rooms = [f"r{number}" for number in range(50)]
            bus.subscribe(rooms)
            await bus.heard(rooms)
            proxy.cut()
            await until(lambda: not link.subscriber.connected.is_set())
            with pytest.raises(StateUnavailable):
                await link.subscriber.rooms.heard(rooms, 0)
            await link.subscriber.connected.wait()
            assert all(numsub(redis_server, room) == 1 for room in rooms)
            await bus.heard(rooms)
            redis_server.execute("PUBLISH", "r7", "back")
            await until(lambda: heard == [b"back"])


async def test_what_is_asked_for_in_one_turn_goes_out_in_one_command(redis_server: RedisServer) -> None:
    async with proxied(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with linked(SingleConnector(url), listens="common") as link:
            bus = RedisBus(link, max_message_bytes=1000)
            before = proxy.sent(b"SUBSCRIBE")
            for number in range(100):
                bus.subscribe([f"r{number}"])
            await asyncio.gather(*(bus.heard([f"r{number}"]) for number in range(100)))
            assert proxy.sent(b"SUBSCRIBE") == before + 1


async def test_a_redis_that_does_not_confirm_fails_the_join_in_time_and_is_made_up_for(
    redis_server: RedisServer,
) -> None:
    async with proxied(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with linked(SingleConnector(url, timeout=0.4), timeout=0.4, listens="common") as link:
            bus = RedisBus(link, max_message_bytes=1000)
            proxy.silent = True
            bus.subscribe(["r"])
            with pytest.raises(StateUnavailable):
                await bus.heard(["r"])
            proxy.silent = False
            async with asyncio.timeout(10):
                while (
                    True
                ):  # it is still wanted: when Redis is back it is heard, without being asked for again
                    try:
                        return await bus.heard(["r"])
                    except StateUnavailable:
                        pass


async def test_a_message_that_is_too_large_never_leaves(redis_server: RedisServer) -> None:
    async with linked(SingleConnector(redis_server.url), listens="common") as link:
        bus = RedisBus(link, max_message_bytes=10)
        with pytest.raises(MessageTooLarge):
            await bus.publish_to_room("r", b"x" * 11)
        await bus.publish_to_room("r", b"x" * 10)


async def test_order_is_kept_between_a_room_and_the_common_channel_on_a_fake_server() -> None:
    server, heard = fakeredis.FakeServer(), list[bytes]()
    connector = SingleConnector("", make=lambda: fakeredis.FakeAsyncRedis(server=server))
    async with linked(connector, listens="common") as link:
        bus = RedisBus(link, max_message_bytes=10)
        bus.listen_to_rooms(heard.append)
        link.subscriber._receivers[b"common"].append(heard.append)
        bus.subscribe(["r"])
        await bus.heard(["r"])
        for number in range(40):
            await (bus.publish if number % 3 else bus.publish_to_room)(
                "common" if number % 3 else "r", b"%d" % number
            )
        await until(lambda: len(heard) == 40)
        assert heard == [b"%d" % number for number in range(40)]


# The bookkeeping alone.


async def test_the_late_confirmation_of_an_earlier_subscription_does_not_count() -> None:
    it = Subscriptions()
    it.begin()
    sent: list[Any] = []
    for change in (it.want, it.unwant, it.want):
        change(["r"])
        sent += it.take()
    assert sent == [("SUBSCRIBE", b"r"), ("UNSUBSCRIBE", b"r"), ("SUBSCRIBE", b"r")]
    for _ in range(2):
        it.replied(b"r")
        with pytest.raises(StateUnavailable):
            await it.heard(["r"], 0)
    it.replied(b"r")
    await it.heard(["r"], 0)


async def test_a_room_given_up_and_wanted_again_in_one_turn_costs_no_command() -> None:
    it = Subscriptions()
    it.want(["r"])
    it.begin()
    it.replied(b"r")
    it.unwant(["r"])
    it.want(["r"])
    assert it.take() == []
    await it.heard(["r"], 0)


async def test_whoever_waits_for_a_room_that_is_given_up_is_told_at_once() -> None:
    it = Subscriptions()
    it.want(["r"])
    waiting = asyncio.create_task(it.heard(["r"], 60))
    await asyncio.sleep(0)
    it.unwant(["r"])
    with pytest.raises(StateUnavailable):
        await asyncio.wait_for(waiting, 5)
    assert not it._waiters
