"""The simulated Redis answers as one does, over connections that behave like connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sim.redis_node import RedisNode
from sim.schedule import JitterSchedule, Schedule
from sim.world import START
from tests.sim.hosts import Hosts

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Served(Hosts):
    """Hosts and a Redis."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        super().__init__(schedule)
        self.redis = RedisNode(self.world, self.network)

    def ask(self, question: Callable[[redis.asyncio.Redis], Awaitable[Any]], **options: Any) -> Any:
        async def asking() -> Any:
            client = redis.asyncio.Redis(
                host="redis", decode_responses=True, retry=Retry(NoBackoff(), 0), **options
            )
            return await question(client)

        return self.run((self.a, asking()))[0]


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_pipelines_and_transactions_are_answered(protocol: int) -> None:
    async def question(client: redis.asyncio.Redis) -> list[Any]:
        await client.hset("hash", mapping={"one": "1", "two": "2"})
        async with client.pipeline(transaction=True) as pipe:
            pipe.incr("count").incr("count").hgetall("hash")
            answers: list[Any] = await pipe.execute()
        return answers

    assert Served().ask(question, protocol=protocol) == [1, 2, {"one": "1", "two": "2"}]


def test_commands_may_arrive_in_any_pieces() -> None:
    class Crumbs:
        def delay(self, message: Any) -> float:
            return 0.001

        def pieces(self, message: Any) -> list[int]:
            return [1] * len(message.data)

    async def question(client: redis.asyncio.Redis) -> list[Any]:
        await client.set("key", "x" * 100)
        return [await client.get("key"), await client.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v")]

    assert Served(Crumbs()).ask(question) == ["x" * 100, ["k", "v"]]


def test_time_and_expiry_are_virtual_and_follow_its_own_clock() -> None:
    served = Served()
    served.redis.node.clock_skew = 1000.0

    async def question(client: redis.asyncio.Redis) -> tuple[Any, ...]:
        seconds, _micro = await client.time()
        await client.set("short", "1", px=5000)
        await asyncio.sleep(4.9)
        before = await client.get("short")
        await asyncio.sleep(0.2)
        in_script = await client.eval("return redis.call('TIME')[1]", 0)
        return seconds, before, await client.get("short"), int(in_script) - seconds

    seconds, before, after, passed = served.ask(question)
    assert seconds == START + 1000
    assert (before, after) == ("1", None)
    assert passed == 5


def test_scripts_are_compiled_once_and_keep_nothing() -> None:
    async def question(client: redis.asyncio.Redis) -> list[Any]:
        script = client.register_script("local n = ARGV[1]; redis.call('INCRBY', KEYS[1], n); return n")
        answers = [await script(keys=["k"], args=[number]) for number in (1, 2, 3)]
        with pytest.raises(redis.exceptions.ResponseError, match="global variable"):
            await client.eval("leak = 1; return redis.call('GET', KEYS[1])", 1, "k")
        return [*answers, await client.get("k")]

    assert Served().ask(question) == ["1", "2", "3", "6"]


@pytest.mark.parametrize("keep", [True, False])
def test_it_comes_back_with_or_without_its_data(keep: bool) -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> Any:
        await client.set("key", "value")
        served.redis.restart(keep_data=keep)
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.get("key")
        return await client.get("key")

    assert served.ask(question) == ("value" if keep else None)


def test_a_hanging_server_answers_later() -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> float:
        await client.ping()
        served.redis.hang(3)
        await client.ping()
        return served.world.now

    assert served.ask(question) == pytest.approx(3, abs=0.1)


def test_killed_connections_are_noticed() -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> int:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=0.1)
        killed = served.redis.kill_connections()
        with pytest.raises(redis.exceptions.ConnectionError):
            await pubsub.get_message(timeout=5)
        return killed

    assert served.ask(question) == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscribers_hear_in_the_order_of_publishing(protocol: int) -> None:
    served = Served(JitterSchedule(seed=3, splits=0.5))

    async def question(client: redis.asyncio.Redis) -> list[str]:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=0.1)
        for number in range(20):
            await client.publish("news", str(number))
        heard: list[str] = []
        while len(heard) < 20:
            message = await pubsub.get_message(timeout=5)
            if message:
                heard.append(message["data"])
        return heard

    assert served.ask(question, protocol=protocol) == [str(number) for number in range(20)]


def test_blocking_commands_wait_in_virtual_time() -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> tuple[Any, float]:
        other = redis.asyncio.Redis(host="redis")
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=0))
        await asyncio.sleep(2)
        await other.rpush("list", "item")
        return await waiting, round(served.world.now, 1)

    assert served.ask(question) == (("list", "item"), 2.0)


def test_info_tells_the_version() -> None:
    async def question(client: redis.asyncio.Redis) -> Any:
        return (await client.info())["redis_version"]

    assert Served().ask(question) == "7.0.0"


def test_a_replica_that_takes_over_has_the_data_of_its_moment_with_its_expiries() -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> list[Any]:
        await client.hset("hash", "kept", "1")
        await client.set("short", "x", ex=100)
        await client.zadd("scores", {"a": 1.0})
        backup = served.redis.keep()
        found = []
        for _ in range(2):
            await client.hset("hash", "lost", "1")
            await client.delete("short")
            await client.zadd("scores", {"a": 2.0, "b": 3.0})
            served.redis.restart(keep_data=False, back_to=backup)
            await client.connection_pool.disconnect()
            scores = await client.zrange("scores", 0, -1)
            found += [await client.hgetall("hash"), 90 < await client.ttl("short") <= 100, scores]
        return found

    assert served.ask(question) == [{"kept": "1"}, True, ["a"]] * 2


def test_what_is_published_to_a_deaf_host_is_lost_and_its_connection_lives_on() -> None:
    served = Served()

    async def question(client: redis.asyncio.Redis) -> list[Any]:
        async with client.pubsub() as hearer:
            await hearer.subscribe("news")
            await hearer.get_message(timeout=1.0)
            served.redis.deaf["a"] = 0
            await client.publish("news", "lost")
            lost = await hearer.get_message(timeout=1.0)
            number = served.redis.deaf.pop("a")
            await client.publish("news", "heard")
            heard = await hearer.get_message(timeout=1.0)
        return [lost, number, heard and heard["data"]]

    assert served.ask(question) == [None, 1, "heard"]
