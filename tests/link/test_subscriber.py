"""The subscriber: comes back from everything, says each time that it does, and is never silently deaf."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from realtime.link import SingleConnector
from realtime.link.subscriber import Subscriber
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.link.lab import background, linked, proxied, say_garbage, say_nothing, serving
from tests.support.stack import until


class Heard:
    """A subscriber's messages and its ``on_ready`` calls."""

    def __init__(self, url: str, *channels: str, timeout: float = 2.0) -> None:
        self.messages: list[bytes] = []
        self.ready = 0
        self.it = Subscriber(SingleConnector(url, timeout=timeout), timeout=timeout)
        for channel in channels:
            self.it.listen(channel, self.messages.append)
        self.it.listen(channels[0], lambda _message: None, self._on_ready)

    def _on_ready(self) -> None:
        assert self.it.connected.is_set()
        self.ready += 1

    async def until_ready(self, times: int, within: float = 5.0) -> None:
        await until(
            lambda: self.ready >= times and self.it.connected.is_set(), within, what=f"on_ready {times} times"
        )


async def say(server: RedisServer, channel: str, message: str) -> None:
    assert await asyncio.to_thread(server.execute, "PUBLISH", channel, message) == 1


async def test_messages_of_all_channels_arrive_in_order(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "a", "b", "ü")
    async with background(heard.it.run):
        await heard.until_ready(1)
        for number in range(5):
            for channel in ("a", "b", "ü"):
                await say(redis_server, channel, f"{channel}{number}")
        await until(lambda: len(heard.messages) == 15)
    assert [message.decode() for message in heard.messages] == [f"{c}{n}" for n in range(5) for c in "abü"]
    assert heard.ready == 1


async def test_on_ready_waits_for_every_channel(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, *(f"c{number}" for number in range(50)))
    subscribed: list[Any] = []
    heard.it._ready.append(lambda: subscribed.append(redis_server.execute("PUBSUB", "NUMSUB", "c0", "c49")))
    async with background(heard.it.run):
        await until(lambda: subscribed)
    assert subscribed == [["c0", 1, "c49", 1]]


async def test_it_comes_back_when_its_connection_is_killed(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "c")
    async with background(heard.it.run):
        for number in range(1, 4):
            await heard.until_ready(number)
            await say(redis_server, "c", str(number))
            await until(lambda: len(heard.messages) == number)  # noqa: B023
            await asyncio.to_thread(redis_server.execute, "CLIENT", "KILL", "TYPE", "pubsub")
        await heard.until_ready(4)
        assert await asyncio.to_thread(redis_server.execute, "PUBSUB", "NUMSUB", "c") == ["c", 1]
    assert heard.it.reconnects == 3


async def test_it_comes_back_after_a_restart(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "c")
    async with background(heard.it.run):
        await heard.until_ready(1)
        await asyncio.to_thread(redis_server.kill)
        await until(lambda: not heard.it.connected.is_set(), what="the loss to be noticed")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis_server.start)
        await heard.until_ready(2)
        await say(redis_server, "c", "back")
        await until(lambda: heard.messages == [b"back"])


async def test_a_server_that_falls_silent_is_noticed_and_found_again(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "c", timeout=0.2)
    async with background(heard.it.run):
        await heard.until_ready(1)
        await asyncio.to_thread(redis_server.pause)
        await until(lambda: not heard.it.connected.is_set(), 2, what="the silence to be noticed")
        await asyncio.sleep(0.5)
        redis_server.resume()
        await heard.until_ready(2)
        await say(redis_server, "c", "back")
        await until(lambda: heard.messages == [b"back"])
        assert await asyncio.to_thread(redis_server.execute, "PUBSUB", "NUMSUB", "c") == ["c", 1]


async def test_a_connection_that_goes_silent_is_replaced(redis_server: RedisServer) -> None:
    """Nothing is reset and nothing closed: a firewall forgot the connection."""
    async with proxied(redis_server.port) as proxy:
        heard = Heard(f"redis://127.0.0.1:{proxy.port}", "c", timeout=0.2)
        async with background(heard.it.run):
            await heard.until_ready(1)
            proxy.silent = True
            await until(lambda: not heard.it.connected.is_set(), 2, what="the silence to be noticed")
            proxy.silent = False
            await heard.until_ready(2)
            await say(redis_server, "c", "back")
            await until(lambda: heard.messages == [b"back"])


async def test_a_quiet_channel_is_no_silence(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "c", timeout=0.5)
    async with background(heard.it.run):
        await heard.until_ready(1)
        await asyncio.sleep(1.7)
        assert (heard.ready, heard.it.reconnects) == (1, 0)


async def test_a_stall_of_this_process_is_not_taken_for_silence(redis_server: RedisServer) -> None:
    heard = Heard(redis_server.url, "c", timeout=0.3)
    async with background(heard.it.run):
        await heard.until_ready(1)
        for number in range(2):
            redis_server.execute("PUBLISH", "c", str(number))
            time.sleep(0.9)  # noqa: ASYNC251
            await asyncio.sleep(0.02)
        await until(lambda: len(heard.messages) == 2)
        assert (heard.ready, heard.it.reconnects) == (1, 0)


async def test_a_message_in_pieces_arrives_whole() -> None:
    """Slower than the time-out of one read, which must not lose what came already."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"+OK\r\n+OK\r\n")
        while b"SUBSCRIBE" not in (piece := await reader.read(65536)):
            if not piece:
                return  # it hung up before it asked
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        for piece in (b"*3\r\n$7\r\nmess", b"age\r\n$1\r\nc\r\n$6\r\nab", b"cd", b"ef\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.14)
        await reader.read()

    async with serving(serve) as port:
        it = Subscriber(SingleConnector(f"redis://127.0.0.1:{port}", timeout=0.4), timeout=0.4)
        it.listen("c", heard.append)
        async with background(it.run):
            await until(lambda: heard == [b"abcdef"])
    assert it.reconnects == 0


async def test_a_receiver_that_raises_disturbs_nobody(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_message: bytes) -> None:
        raise KeyError("broken")

    heard = Heard(redis_server.url, "c")
    heard.it._receivers[b"c"].insert(0, broken)
    heard.it._ready.insert(0, lambda: broken(b""))
    async with background(heard.it.run):
        await heard.until_ready(1)
        for number in range(3):
            await say(redis_server, "c", str(number))
        await until(lambda: len(heard.messages) == 3)
    assert heard.it.reconnects == 0
    assert sum("could not be handled" in record.message for record in caplog.records) == 3


@pytest.mark.parametrize("trouble", ["gone", "hangs", "garbage", "nonsense", "drops"])
async def test_a_server_in_trouble_is_not_asked_in_a_busy_loop(
    trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the log fill: the loss is told once. ("drops": takes the subscription, then hangs up.)"""
    asked = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"+OK\r\n+OK\r\n")
        while b"SUBSCRIBE" not in (piece := await reader.read(65536)):
            if not piece:
                return  # it hung up before it asked
        writer.write(b"*zz\r\n" if trouble == "nonsense" else b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")

    class Counting(SingleConnector):
        async def plain(self) -> Any:
            nonlocal asked
            asked += 1
            return await super().plain()

    serve = {"gone": say_nothing, "hangs": say_nothing, "garbage": say_garbage}.get(trouble, take)
    async with serving(serve) as port:
        url = f"redis://127.0.0.1:{free_port() if trouble == 'gone' else port}"
        it = Subscriber(Counting(url, timeout=0.2), timeout=0.2)
        ready: list[None] = []
        it.listen("c", lambda _message: None, lambda: ready.append(None))
        with caplog.at_level(logging.WARNING):
            async with background(it.run):
                await asyncio.sleep(1.5)
    assert 2 <= asked < 15
    assert bool(ready) == (trouble == "drops")
    if trouble != "drops":
        assert len(caplog.records) == 1
    assert not any(record.exc_info for record in caplog.records)


async def test_the_task_ends_when_it_is_cancelled_whatever_the_server_does() -> None:
    async with serving(say_nothing) as port:
        it = Subscriber(SingleConnector(f"redis://127.0.0.1:{port}", timeout=5), timeout=5)
        it.listen("c", lambda _message: None)
        run = asyncio.create_task(it.run())
        await asyncio.sleep(0.05)
        run.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(run, return_exceptions=True)


async def test_a_forbidden_channel_is_told_and_heard_once_it_is_allowed(redis_server: RedisServer) -> None:
    redis_server.execute("ACL", "SETUSER", "default", "resetchannels")
    heard = Heard(redis_server.url, "c", timeout=0.5)
    async with background(heard.it.run):
        await until(lambda: "channel" in heard.it.failure.lower())
        await asyncio.to_thread(redis_server.execute, "ACL", "SETUSER", "default", "allchannels")
        await heard.until_ready(1)
        assert heard.it.failure == ""


async def test_it_hears_fakeredis_too() -> None:
    server = FakeServer()
    it = Subscriber(SingleConnector("", make=lambda: FakeAsyncRedis(server=server)), timeout=0.1)
    heard: list[bytes] = []
    it.listen("c", heard.append)
    async with background(it.run):
        await until(it.connected.is_set)
        await asyncio.sleep(0.3)
        assert it.reconnects == 0
        async with FakeAsyncRedis(server=server) as speaker:
            await speaker.publish("c", b"\xff")
        await until(lambda: heard == [b"\xff"])


async def test_a_lost_subscription_makes_the_publisher_connect_anew(redis_server: RedisServer) -> None:
    """Found by the simulator (`soak`, seeds 263 and 278): Redis restarted behind a partition, the publisher's idle
    connection stayed half-open, and the first message over it was lost."""

    def commanding() -> set[str]:
        clients = str(redis_server.execute("CLIENT", "LIST", "TYPE", "normal"))
        return {line.split()[0] for line in clients.splitlines() if "cmd=publish" in line}

    async with linked(SingleConnector(redis_server.url), listens="c") as link:
        await link.publisher.publish("c", b"x")
        before = await asyncio.to_thread(commanding)
        assert len(before) == 1
        await asyncio.to_thread(redis_server.execute, "CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: link.subscriber.reconnects)
        await link.publisher.publish("c", b"y")
        after = await asyncio.to_thread(commanding)
        assert len(after) == 1
        assert after != before
