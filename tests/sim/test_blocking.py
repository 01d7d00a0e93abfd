"""Blocking clients on a node stop that node alone, and see what a real socket would show them."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from typing import Any

import anyio.to_thread
import pytest
import redis
import redis.exceptions

from sim.redis_node import RedisNode
from sim.schedule import PlainSchedule
from tests.sim.hosts import Hosts, Seen

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def client(**options: Any) -> redis.Redis:
    return redis.Redis(host="redis", decode_responses=True, **options)


def test_a_blocking_client_stops_its_own_host_and_no_other() -> None:
    hosts = Hosts()
    seen = Seen()
    hosts.network.observers.append(seen)
    RedisNode(hosts.world, hosts.network)
    ticks: dict[str, list[float]] = {"a": [], "b": []}

    async def tick(name: str) -> None:
        while True:
            await asyncio.sleep(0.1)
            ticks[name].append(round(hosts.world.now, 2))

    async def handler() -> tuple[float, str]:
        connection = client()
        connection.set("key", "value")
        await asyncio.sleep(0.45)
        sent = sum(message.target == "redis" for message in seen.messages)
        schedule.holds[f"a→redis #{sent + 1}"] = 1.0
        value = connection.get("key")
        return hosts.world.now, str(value)

    schedule = PlainSchedule(holds={})
    hosts.network.schedule = schedule
    hosts.a.spawn(tick("a"))
    hosts.b.spawn(tick("b"))
    (_, (when, value)) = hosts.run((hosts.b, asyncio.sleep(2)), (hosts.a, handler()))
    assert value == "value"
    assert when == pytest.approx(1.45, abs=0.02)
    assert ticks["b"] == [round(0.1 * number, 2) for number in range(1, 21)]
    assert not [at for at in ticks["a"] if 0.46 < at < 1.44]
    assert schedule.bitten


def test_a_time_out_comes_at_its_virtual_time() -> None:
    hosts = Hosts()
    host = RedisNode(hosts.world, hosts.network)

    async def ask() -> float:
        connection = client(socket_timeout=2.0, retry=None)
        connection.ping()
        began = hosts.world.now
        host.node.pause(60)
        with pytest.raises(redis.exceptions.TimeoutError):
            connection.ping()
        return hosts.world.now - began

    assert hosts.run((hosts.a, ask())) == [pytest.approx(2.0, abs=0.01)]


@pytest.mark.parametrize(
    ("fault", "error"),
    [("refused", redis.exceptions.ConnectionError), ("silent", redis.exceptions.TimeoutError)],
)
def test_connecting_fails_as_it_does_for_real(fault: str, error: type[Exception]) -> None:
    hosts = Hosts()
    host = RedisNode(hosts.world, hosts.network)
    hosts.network.crash(host.node, silent=fault == "silent")

    async def ask() -> float:
        with pytest.raises(error):
            client(socket_connect_timeout=3.0, retry=None).ping()
        return hosts.world.now

    assert hosts.run((hosts.a, ask())) == [pytest.approx(3.0 if fault == "silent" else 0.001, abs=0.01)]


def test_a_connection_that_died_while_idle_is_replaced() -> None:
    hosts = Hosts()
    host = RedisNode(hosts.world, hosts.network)

    async def ask() -> bool:
        connection = client()
        connection.set("key", "1")
        host.kill_connections()
        await asyncio.sleep(0.1)
        return connection.get("key") == "1"

    assert hosts.run((hosts.a, ask())) == [True]


def test_blocking_pubsub_hears_what_is_published() -> None:
    hosts = Hosts()
    RedisNode(hosts.world, hosts.network)

    async def listen() -> list[Any]:
        pubsub = client().pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe("news")
        heard: list[Any] = []
        while len(heard) < 2:
            message = pubsub.get_message(timeout=10)
            if message:
                heard.append((message["data"], round(hosts.world.now)))
        return heard

    async def publish() -> None:
        await asyncio.sleep(3)
        connection = client()
        connection.publish("news", "one")
        time.sleep(2)  # noqa: ASYNC251
        connection.publish("news", "two")

    heard, _ = hosts.run((hosts.a, listen()), (hosts.b, publish()))
    assert heard == [("one", 3), ("two", 5)]


def test_work_for_threads_blocks_nobody_else_on_its_host() -> None:
    hosts = Hosts()
    RedisNode(hosts.world, hosts.network)

    def slow(seconds: float) -> tuple[float, bool]:
        time.sleep(seconds)
        client().ping()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return round(hosts.world.now, 1), False
        return round(hosts.world.now, 1), True

    async def main() -> tuple[Any, Any, float]:
        first = asyncio.ensure_future(asyncio.to_thread(slow, 2.0))
        second = asyncio.ensure_future(anyio.to_thread.run_sync(slow, 1.0))
        await asyncio.sleep(0.5)
        at = hosts.world.now
        return await first, await second, at

    assert hosts.run((hosts.a, main())) == [((2.0, False), (1.0, False), 0.5)]


def test_an_error_in_a_thread_is_the_callers() -> None:
    hosts = Hosts()

    def fail() -> None:
        time.sleep(1)
        raise ValueError("from the thread")

    async def main() -> None:
        with pytest.raises(ValueError, match="from the thread"):
            await asyncio.to_thread(fail)

    hosts.run((hosts.a, main()))


def test_the_standard_http_client_works_on_a_host() -> None:
    hosts = Hosts()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def serve() -> None:
        await asyncio.start_server(handle, "b", 80)

    async def ask() -> bytes:
        connection = http.client.HTTPConnection("b", 80, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().read()

    _, answer = hosts.run((hosts.b, serve()), (hosts.a, ask()))
    assert answer == b"ok"


def test_a_blocked_host_that_is_paused_goes_on_after_the_pause() -> None:
    hosts = Hosts()

    async def block() -> float:
        time.sleep(1)  # noqa: ASYNC251
        return hosts.world.now

    async def pause() -> None:
        await asyncio.sleep(0.5)
        hosts.a.pause(3)

    assert hosts.run((hosts.a, block()), (hosts.b, pause())) == [3.5, None]


def test_outside_of_a_world_sockets_and_sleep_are_real() -> None:
    began = time.perf_counter()
    time.sleep(0.01)
    assert time.perf_counter() - began >= 0.01
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as connection:
            assert isinstance(connection, socket.socket)
