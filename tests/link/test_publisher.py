"""The publisher: in order, in batches, bounded, and never twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from fakeredis import FakeAsyncRedis, FakeServer

from realtime.errors import BusOverloaded, StateUnavailable
from realtime.link import SingleConnector
from realtime.link.publisher import BATCH, Publisher
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.link.lab import background, proxied, say_garbage, say_nothing, serving
from tests.support.relay import relay
from tests.support.stack import until


class Ear:
    """What really arrives on a channel, heard with a blocking client of its own."""

    def __init__(self, url: str, channel: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=2, socket_timeout=5)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(channel)
        assert self._pubsub.get_message(timeout=5)

    def heard(self, until: bytes) -> list[bytes]:
        """Every message up to and with ``until``."""
        messages = []
        while message := self._pubsub.get_message(timeout=5):
            messages.append(message["data"])
            if message["data"] == until:
                break
        return messages

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


def publisher(url: str, *, timeout: float = 2.0, **bounds: Any) -> Publisher:
    return Publisher(SingleConnector(url, timeout=timeout), timeout=timeout, **bounds)


async def test_messages_keep_the_order_in_which_publish_was_called(redis_url: str, redis_prefix: str) -> None:
    ear = Ear(redis_url, redis_prefix)
    sent = [str(number).encode() for number in range(1000)]
    it = publisher(redis_url)
    async with background(it.run):
        await asyncio.gather(*(it.publish(redis_prefix, message) for message in sent))
        await it.publish(redis_prefix, b"end")
    assert ear.heard(b"end") == [*sent, b"end"]
    ear.close()


async def test_what_waits_goes_out_in_batches(redis_server: RedisServer) -> None:
    async with proxied(redis_server.port) as proxy:
        it = publisher(f"redis://127.0.0.1:{proxy.port}")
        async with background(it.run):
            await it.publish("c", b"first")
            proxy.seen.clear()
            await asyncio.gather(*(it.publish("c", b"x") for _ in range(3 * BATCH)))
            assert proxy.sent(b"PUBLISH") == 3 * BATCH
            assert len(proxy.seen) <= 9


@pytest.mark.parametrize("bounds", [{"max_messages": 10}, {"max_bytes": 1000}])
async def test_a_full_queue_refuses_at_once(bounds: dict[str, int]) -> None:
    async with serving(say_nothing) as port:
        it = publisher(f"redis://127.0.0.1:{port}", timeout=0.2, **bounds)
        async with background(it.run):
            waiting = [asyncio.create_task(it.publish("c", b"x" * 100)) for _ in range(10)]
            await asyncio.sleep(0)
            with pytest.raises(BusOverloaded):
                await it.publish("c", b"x")
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, StateUnavailable) for outcome in outcomes)


async def test_a_message_waits_no_longer_than_its_bound_whatever_holds_the_queue_up(redis_url: str) -> None:
    it = publisher(redis_url, timeout=0.1)  # and nobody runs it
    with pytest.raises(StateUnavailable):
        async with asyncio.timeout(5):
            await it.publish("c", b"x")


async def test_the_queue_has_room_again_after_a_failure(redis_server: RedisServer) -> None:
    it = publisher(redis_server.url, timeout=0.4, max_messages=5, max_bytes=500)
    async with background(it.run):
        await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.pause)
        for _ in range(4):
            await asyncio.gather(*(it.publish("c", b"x" * 100) for _ in range(5)), return_exceptions=True)
        redis_server.resume()
        await published(it, "c", b"x" * 500)


async def test_a_hanging_server_costs_twice_the_time_out_at_most(redis_server: RedisServer) -> None:
    it = publisher(redis_server.url, timeout=0.4)
    async with background(it.run):
        await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.pause)
        for _ in range(3):
            began = time.monotonic()
            outcomes = await asyncio.gather(
                *(it.publish("c", b"x") for _ in range(3 * BATCH)), return_exceptions=True
            )
            assert all(isinstance(outcome, StateUnavailable) for outcome in outcomes)
            assert time.monotonic() - began < 2.5
        redis_server.resume()
        await published(it, "c", b"y")


async def test_while_redis_is_known_to_be_away_a_message_is_refused_at_once(
    redis_server: RedisServer,
) -> None:
    """A handler that emits must not wait for the time-out with every event of an outage."""
    it = publisher(redis_server.url, timeout=0.4)
    async with background(it.run):
        await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.pause)
        with pytest.raises(StateUnavailable):
            while True:
                await it.publish("c", b"x")
        await until(lambda: it._away, what="the outage to be known")
        refused = 0
        for _ in range(200):
            coroutine = it.publish("c", b"x")
            with pytest.raises(StateUnavailable):
                coroutine.send(None)  # it does not even wait for the loop
            refused += 1
        assert refused == 200
        redis_server.resume()
        await published(it, "c", b"y")


async def test_after_a_restart_messages_go_out_again(redis_server: RedisServer) -> None:
    it = publisher(redis_server.url, timeout=0.5)
    async with background(it.run):
        await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.kill)
        with pytest.raises(StateUnavailable):
            for _ in range(2):
                await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.start)
        await published(it, "c", b"y")


async def test_a_connection_that_was_killed_while_idle_loses_no_message(redis_server: RedisServer) -> None:
    it = publisher(redis_server.url)
    async with background(it.run):
        await it.publish("c", b"x")
        await asyncio.to_thread(redis_server.execute, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)
        await it.publish("c", b"y")


async def test_a_connection_that_was_reset_while_idle_loses_no_message(redis_server: RedisServer) -> None:
    """Found by the simulator (`python -m sim run redis-restart`): redis-py notices only an orderly end."""
    async with relay(redis_server.port) as between:
        it = publisher(f"redis://127.0.0.1:{between.port}/0")
        async with background(it.run):
            await it.publish("c", b"x")
            between.reset()
            await asyncio.sleep(0.05)  # the loop must look at its sockets once to see that one was reset
            await it.publish("c", b"y")


async def test_a_server_that_died_while_nothing_was_said_loses_no_message_if_there_is_another(
    redis_server: RedisServer, redis_url: str, redis_prefix: str
) -> None:
    """As on a cluster, and behind Sentinel."""
    ear = Ear(redis_url, redis_prefix)
    urls = [redis_server.url]

    class Moving(SingleConnector):
        async def plain(self) -> Any:
            return await SingleConnector(urls[0]).plain()

    it = Publisher(Moving(redis_url), timeout=2)
    async with background(it.run):
        await it.publish(redis_prefix, b"there")
        redis_server.kill()
        urls[0] = redis_url
        await asyncio.sleep(0.05)  # the loop must look at its sockets once to see that one closed
        await it.publish(redis_prefix, b"here")
    assert ear.heard(b"here") == [b"here"]
    ear.close()


async def test_it_publishes_to_fakeredis_too() -> None:
    server = FakeServer()
    it = Publisher(SingleConnector("", make=lambda: FakeAsyncRedis(server=server)), timeout=2)
    async with background(it.run), FakeAsyncRedis(server=server) as other, other.pubsub() as pubsub:
        await pubsub.subscribe("c")
        await asyncio.gather(*(it.publish("c", str(number).encode()) for number in range(300)))
        heard = [message["data"] async for message in taken(pubsub, 300)]
    assert heard == [str(number).encode() for number in range(300)]


async def taken(pubsub: Any, number: int) -> AsyncIterator[Any]:
    while number:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is not None:
            number -= 1
            yield message


async def test_what_failed_is_never_sent_twice(redis_server: RedisServer) -> None:
    """A lost answer does not say whether the message arrived: only the caller can know whether to repeat it."""
    ear = Ear(redis_server.url, "c")
    async with proxied(redis_server.port) as proxy:
        it = publisher(f"redis://127.0.0.1:{proxy.port}", timeout=0.3)
        async with background(it.run):
            await it.publish("c", b"before")
            proxy.silent = True
            failing = [asyncio.create_task(it.publish("c", f"f{number}".encode())) for number in range(300)]
            outcomes = await asyncio.gather(*failing, return_exceptions=True)
            assert all(isinstance(outcome, StateUnavailable) for outcome in outcomes)
            proxy.silent = False
            await published(it, "c", b"after")
            proxy.cut()
            await published(it, "c", b"end")
        heard = await asyncio.to_thread(ear.heard, b"end")
        assert heard == [b"before", b"after", b"end"]
    ear.close()


async def test_a_message_nobody_waits_for_any_more_is_not_sent(redis_server: RedisServer) -> None:
    ear = Ear(redis_server.url, "c")
    it = publisher(redis_server.url)
    given_up = asyncio.create_task(it.publish("c", b"given up"))
    await asyncio.sleep(0)
    given_up.cancel()
    async with background(it.run):
        await it.publish("c", b"end")
    assert ear.heard(b"end") == [b"end"]
    ear.close()


async def test_one_refused_message_does_not_fail_the_others_of_its_batch(redis_server: RedisServer) -> None:
    redis_server.execute("ACL", "SETUSER", "default", "resetchannels", "&allowed")
    it = publisher(redis_server.url)
    async with background(it.run):
        outcomes = await asyncio.gather(
            it.publish("allowed", b"1"), it.publish("forbidden", b"2"), it.publish("allowed", b"3"),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(outcome) for outcome in outcomes] == [type(None), StateUnavailable, type(None)]


async def test_the_end_of_the_task_fails_what_is_on_its_way() -> None:
    async with serving(say_nothing) as port:
        it = publisher(f"redis://127.0.0.1:{port}")
        run = asyncio.create_task(it.run())
        waiting = [asyncio.create_task(it.publish("c", b"x")) for _ in range(2)]
        await asyncio.sleep(0.05)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        it.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, StateUnavailable) for outcome in outcomes)


async def test_an_end_in_the_middle_of_a_batch_is_no_success(redis_server: RedisServer) -> None:
    async with proxied(redis_server.port) as proxy:
        it = publisher(f"redis://127.0.0.1:{proxy.port}")
        run = asyncio.create_task(it.run())
        await it.publish("c", b"x")
        proxy.silent = True
        waiting = asyncio.create_task(it.publish("c", b"x"))
        await until(lambda: not it._queue, what="the batch to be on its way")
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        with pytest.raises(StateUnavailable):
            await waiting


@pytest.mark.parametrize("trouble", ["gone", "garbage"])
async def test_a_server_in_trouble_is_not_asked_in_a_busy_loop(trouble: str) -> None:
    async with serving(say_garbage) as port:
        asked = 0

        class Counting(SingleConnector):
            async def plain(self) -> Any:
                nonlocal asked
                asked += 1
                return await super().plain()

        url = f"redis://127.0.0.1:{port if trouble == 'garbage' else free_port()}"
        it = Publisher(Counting(url, timeout=0.2), timeout=0.2)
        async with background(it.run):
            await asyncio.sleep(0.7)
            for _ in range(50):
                with pytest.raises(StateUnavailable):
                    await it.publish("c", b"x")
        assert 1 <= asked < 20


async def published(it: Publisher, channel: str, message: bytes, within: float = 5.0) -> None:
    """Publishes as soon as Redis takes it."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await it.publish(channel, message)
            except StateUnavailable:
                await asyncio.sleep(0.02)
