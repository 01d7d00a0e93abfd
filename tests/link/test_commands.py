"""``RedisLink.run``: every command is bounded, every failure typed, and no reply goes to the wrong command."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from redis.exceptions import NoScriptError

from realtime.errors import InvalidPayload, StateUnavailable
from realtime.link import RedisLink, SingleConnector
from realtime.link.redis_link import COMMAND_CONNECTIONS
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.link.lab import linked, proxied, say_garbage, say_nothing, serving


async def echoed(link: RedisLink, word: str) -> str:
    reply: bytes = await link.run(lambda r: r.execute_command("ECHO", word))
    return reply.decode()


async def test_a_command_returns_its_reply_as_bytes(redis_url: str) -> None:
    async with linked(SingleConnector(redis_url)) as link:
        assert await link.run(lambda r: r.execute_command("ECHO", "é")) == "é".encode()


async def test_what_cannot_be_sent_is_no_outage(redis_url: str) -> None:
    async with linked(SingleConnector(redis_url)) as link:
        words: list[Any] = [None, "\ud800", ["a"]]
        for word in words:
            with pytest.raises(InvalidPayload):
                await echoed(link, word)
        assert link.failures == 0
        assert await echoed(link, "x") == "x"


async def test_a_server_that_is_not_there_is_a_typed_error() -> None:
    async with linked(SingleConnector(f"redis://127.0.0.1:{free_port()}")) as link:
        with pytest.raises(StateUnavailable):
            await echoed(link, "x")


async def test_the_log_tells_once_what_is_wrong_and_clients_are_not_told_where_redis_is(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "realtime")
    async with linked(SingleConnector(redis_server.url)) as link:
        await echoed(link, "x")
        redis_server.kill()
        for _ in range(3):
            with pytest.raises(StateUnavailable) as failed:
                await echoed(link, "x")
            assert "127.0.0.1" not in str(failed.value)
            assert str(redis_server.port) not in str(failed.value)
        redis_server.start()
        await echoed(link, "x")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert str(redis_server.port) in told[0] or "closed" in told[0]
    assert told[1] == "Redis can be used again"


async def test_a_server_that_never_answers_costs_no_more_than_the_time_out() -> None:
    async with (
        serving(say_nothing) as port,
        linked(SingleConnector(f"redis://127.0.0.1:{port}", timeout=0.2), timeout=0.2) as link,
    ):
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(echoed(link, str(number)) for number in range(5 * COMMAND_CONNECTIONS)), return_exceptions=True
        )
        assert all(isinstance(outcome, StateUnavailable) for outcome in outcomes)
        assert time.monotonic() - began < 2, "they waited one after the other"


async def test_a_server_that_answers_garbage_is_a_typed_error() -> None:
    async with (
        serving(say_garbage) as port,
        linked(SingleConnector(f"redis://127.0.0.1:{port}", timeout=0.5), timeout=0.5) as link,
    ):
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                await echoed(link, "x")


async def test_an_error_reply_is_a_typed_error_and_the_connection_goes_on(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(SingleConnector(redis_url)) as link:
        number = await link.run(lambda r: r.client_id())
        with pytest.raises(StateUnavailable):
            await link.run(lambda r: r.execute_command("GET"))
        assert "wrong number of arguments" in caplog.text
        assert await link.run(lambda r: r.client_id()) == number


async def test_an_unknown_script_is_the_callers_to_send(redis_url: str) -> None:
    async with linked(SingleConnector(redis_url)) as link:
        with pytest.raises(NoScriptError):
            await link.run(lambda r: r.evalsha("0" * 40, 0))


async def test_more_commands_than_connections_wait_their_turn(redis_server: RedisServer) -> None:
    async with linked(SingleConnector(redis_server.url), timeout=30) as link:  # a busy machine is no fault
        words = [str(number) for number in range(500)]
        assert await asyncio.gather(*(echoed(link, word) for word in words)) == words
        clients: list[Any] = await link.run(lambda r: r.client_list())
        assert len(clients) <= COMMAND_CONNECTIONS + 1  # and the one that watches the server for the test


async def test_replies_never_get_mixed_up_while_commands_time_out(redis_server: RedisServer) -> None:
    wrong: list[tuple[str, str]] = []
    answered = timed_out = 0
    chance = random.Random(7)

    async def ask(link: RedisLink, name: int) -> None:
        nonlocal answered, timed_out
        for turn in range(60):
            word = f"{name}-{turn}"
            try:
                reply = await echoed(link, word)
            except StateUnavailable:
                timed_out += 1
            else:
                answered += 1
                if reply != word:
                    wrong.append((word, reply))
            await asyncio.sleep(chance.random() * 0.01)

    async def disturb() -> None:
        for _ in range(8):
            await asyncio.sleep(0.03)
            await asyncio.to_thread(redis_server.pause)
            await asyncio.sleep(chance.choice((0.02, 0.05, 0.08)))  # around the time-out
            redis_server.resume()

    async with linked(SingleConnector(redis_server.url, timeout=0.05), timeout=0.05) as link:
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb())
            for name in range(24):
                group.create_task(ask(link, name))
        assert not wrong
        assert answered
        assert timed_out, "nothing was disturbed"
        await asyncio.sleep(0.1)
        words = [str(number) for number in range(3 * COMMAND_CONNECTIONS)]
        link.timeout = 5.0
        assert await asyncio.gather(*(echoed(link, word) for word in words)) == words


async def test_cancelled_commands_neither_mix_up_replies_nor_keep_their_turn(redis_url: str) -> None:
    chance = random.Random(11)
    async with linked(SingleConnector(redis_url)) as link:

        async def ask(word: str) -> None:
            assert await echoed(link, word) == word

        for round_number in range(40):
            tasks = [asyncio.create_task(ask(f"{round_number}-{number}")) for number in range(40)]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 20):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [each for each in outcomes if isinstance(each, Exception)]
        async with asyncio.timeout(2):
            await asyncio.gather(*(ask(str(number)) for number in range(4 * COMMAND_CONNECTIONS)))


async def test_after_warm_up_nothing_but_the_commands_is_sent(redis_server: RedisServer) -> None:
    """No health checks, no HELLO, no CLIENT SETINFO, no maintenance notifications: those cost round trips."""
    async with (
        proxied(redis_server.port) as proxy,
        linked(SingleConnector(f"redis://127.0.0.1:{proxy.port}")) as link,
    ):
        await echoed(link, "warm")
        assert proxy.sent(b"HELLO") == 0
        assert proxy.sent(b"MAINT_NOTIFICATIONS") == 0
        assert proxy.sent(b"SETINFO") == 2
        proxy.seen.clear()
        for number in range(20):
            await echoed(link, str(number))
        assert len(proxy.seen) == 20
        assert all(piece.startswith(b"*2\r\n$4\r\nECHO") for piece in proxy.seen)


async def test_a_failed_command_is_not_sent_again(redis_server: RedisServer) -> None:
    async with (
        proxied(redis_server.port) as proxy,
        linked(SingleConnector(f"redis://127.0.0.1:{proxy.port}")) as link,
    ):
        await echoed(link, "warm")
        asking = asyncio.create_task(link.run(lambda r: r.execute_command("BLPOP", "nothing-there", 5)))
        while not proxy.sent(b"BLPOP"):
            await asyncio.sleep(0.005)
        proxy.cut()
        with pytest.raises(StateUnavailable):
            await asking
        assert await echoed(link, "again") == "again"
        assert proxy.sent(b"BLPOP") == 1


async def test_a_closed_link_refuses_and_opens_nothing(redis_url: str) -> None:
    async with linked(SingleConnector(redis_url)) as link:
        await echoed(link, "x")
    with pytest.raises(StateUnavailable, match="shutting down"):
        await echoed(link, "y")
    with pytest.raises(StateUnavailable):
        await link.publisher.publish("c", b"x")


async def test_a_server_that_became_a_replica_is_looked_for_anew(
    redis_server: RedisServer, redis_binary: Any
) -> None:
    """As behind a DNS name: the old primary answers READONLY on connections that would never end by themselves."""
    with RedisServer(binary=redis_binary, name="redis-new") as promoted:
        urls = [redis_server.url]

        class Moving(SingleConnector):
            def __init__(self) -> None:
                super().__init__(redis_server.url)

            def commands(self) -> Any:
                return SingleConnector(urls[0]).commands()

        async with linked(Moving(), listens="c") as link:
            await link.run(lambda r: r.set("key", "1"))
            await link.publisher.publish("c", b"before")
            redis_server.execute("REPLICAOF", "127.0.0.1", str(free_port()))
            urls[0] = promoted.url
            with pytest.raises(StateUnavailable):
                await link.run(lambda r: r.set("key", "2"))
            await link.run(lambda r: r.set("key", "3"))
            assert promoted.execute("GET", "key") == "3"
            async with asyncio.timeout(5):
                while promoted.execute("PUBSUB", "NUMSUB", "c") != ["c", 1]:
                    await asyncio.sleep(0.02)
            await link.publisher.publish("c", b"after")
            assert "cmdstat_publish" in str(promoted.execute("INFO", "commandstats"))


async def test_the_start_is_bounded_and_says_why(redis_server: RedisServer) -> None:
    wrong = f"redis://:wrong@127.0.0.1:{redis_server.port}"
    redis_server.execute("CONFIG", "SET", "requirepass", "right")
    began = time.monotonic()
    with pytest.raises(
        StateUnavailable, match=r"(?i)WRONGPASS|invalid username-password.*WEBSOCKET_REDIS_URL"
    ):
        async with linked(SingleConnector(wrong, timeout=0.2), timeout=0.2, listens="c"):
            pass
    assert time.monotonic() - began < 5
