"""The end of an instance: asked for under ``python -m realtime`` and under plain uvicorn, or by SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import socketio

import realtime
from realtime.auth import create_token
from sim.processes.instances import SECRET_KEY, Fleet, Instance
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.link.lab import serving
from tests.support.node_client import NodeClient
from tests.support.stack import Client, client, until

pytestmark = pytest.mark.e2e

GRACE = 3.0
SLACK = 5.0
"""What a busy machine may take longer."""
LEASES = "{open-webui:realtime}:leases"
LONG_LEASE = {
    # So that no lease ends by itself while a test looks: what is gone was given up.
    "REALTIME_LEASE_SECONDS": "60",
    "REALTIME_STATE_TIMEOUT_SECONDS": "1",
    "REALTIME_SHUTDOWN_GRACE_SECONDS": f"{GRACE:g}",
}


def token(user_id: str) -> str:
    return create_token(user_id, SECRET_KEY, expires_in=600)


@contextlib.asynccontextmanager
async def balanced(*ports: int) -> AsyncIterator[str]:
    """A load balancer: each connection goes to the first instance that takes it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in ports:
            with contextlib.suppress(OSError):
                upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(pump(reader, downstream), pump(upstream, writer))
                return

    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}"


def online(watcher: Client) -> set[str]:
    return set((watcher.last("user-list") or {"user_ids": []})["user_ids"])


async def terminated(instance: Instance, within: float = GRACE + SLACK) -> tuple[int, float]:
    """SIGTERM: the exit status, and how long it took."""
    began = time.monotonic()
    status = await asyncio.to_thread(instance.terminate, within)
    return status, time.monotonic() - began


async def test_sigterm_lets_everybody_go_and_they_come_back_elsewhere(
    redis_server: RedisServer, node_modules: Path
) -> None:
    async with Fleet(2, redis_url=redis_server.url, demo=True, settings=LONG_LEASE) as fleet:
        one, two = fleet.instances
        async with (
            balanced(one.port, two.port) as url,
            client(two.url, token=token("watcher")) as watcher,
            client(one.url, token=token("leaver")) as leaver,
            client(url, token=token("p-websocket"), reconnection=True) as socket,
            client(url, token=token("p-polling"), transports=("polling",), reconnection=True) as polling,
            NodeClient() as node_socket,
            NodeClient() as node_polling,
        ):
            await node_socket.connect(
                url, auth={"token": token("n-websocket")}, transports=["websocket"], reconnection=True
            )
            await node_polling.connect(
                url, auth={"token": token("n-polling")}, transports=["polling"], reconnection=True
            )
            back = {"p-websocket", "p-polling", "n-websocket", "n-polling"}
            everybody = back | {"watcher", "leaver"}
            await until(
                lambda: online(watcher) == everybody, what=lambda: f"all to be there: {online(watcher)}"
            )
            sids = {socket.sid, polling.sid}

            ending = asyncio.create_task(terminated(one))
            # Told at once, and no lease has ended.
            await until(lambda: "leaver" not in online(watcher), GRACE, what="the leave to be told")
            status, took = await ending

            assert status == 0, one.log
            assert took < GRACE + SLACK
            assert "Traceback" not in one.log
            assert leaver.of("closing") == [{"code": 4010, "reason": "server is shutting down"}]
            await until(lambda: online(watcher) == back | {"watcher"}, 15, what="all to be back")
            # Others hear of a client a moment before it hears that it is in.
            await until(lambda: socket.sio.connected, what="the client to know")
            assert socket.sio.connected
            assert not sids & {socket.sid, polling.sid}
            assert await socket.sio.call("usage", {"model": "m"}) is None
            assert await node_polling.call("usage", {"model": "m"}) is None
            leases = redis_server.execute("ZCARD", LEASES)
            assert leases == 1, "the lease was not given up"


async def test_sigterm_under_load_ends_within_the_grace_time(redis_server: RedisServer) -> None:
    """Many clients, so that they are let go in several batches."""
    async with Fleet(2, redis_url=redis_server.url, demo=True, settings=LONG_LEASE) as fleet:
        one, two = fleet.instances
        async with contextlib.AsyncExitStack() as stack:
            watcher = await stack.enter_async_context(client(two.url, token=token("watcher")))
            for number in range(60):
                transport = "polling" if number % 3 == 0 else "websocket"
                await stack.enter_async_context(
                    client(one.url, token=token(f"u{number}"), transports=(transport,))
                )
            await until(lambda: len(online(watcher)) == 61)
            status, took = await terminated(one)
            await until(lambda: online(watcher) == {"watcher"})
        assert (status, took < GRACE + SLACK) == (0, True)
        assert "Traceback" not in one.log


async def test_busy_handlers_and_pending_polls_hold_nothing_up(redis_server: RedisServer) -> None:
    async with Instance(
        redis_url=redis_server.url, demo=True, settings=LONG_LEASE, module="tests.serving.busy"
    ) as one:
        async with (
            client(one.url, token=token("ann")) as ann,
            client(one.url, token=token("bob"), transports=("polling",)) as bob,
            client(one.url),  # who has not signed in
        ):
            for each in (ann, bob):
                await each.sio.emit("busy")
                await each.sio.emit("usage", {"model": "waits behind it"})
            status, took = await terminated(one)
        assert (status, took < GRACE + SLACK) == (0, True), took
        assert "Traceback" not in one.log
        assert redis_server.execute("ZCARD", LEASES) == 0
        assert redis_server.execute("HLEN", LEASES.replace("leases", "sessions")) == 0


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_without_redis_the_end_is_as_bounded(redis_server: RedisServer, fault: str) -> None:
    async with Instance(redis_url=redis_server.url, demo=True, settings=LONG_LEASE) as one:
        async with (
            client(one.url, token=token("ann")) as ann,
            client(one.url, token=token("bob"), transports=("polling",)),
        ):
            await asyncio.to_thread(redis_server.kill if fault == "away" else redis_server.pause)
            status, took = await terminated(one, GRACE + 2 * SLACK)
            await ann.wait_for("closing")
        assert (status, took < GRACE + 2 * SLACK) == (0, True), took
        assert "Traceback" not in one.log


async def test_a_second_interrupt_ends_it_at_once(redis_server: RedisServer) -> None:
    """Ctrl-C twice: whoever is at the terminal does not want to wait for a Redis that hangs."""
    patient = {"REALTIME_SHUTDOWN_GRACE_SECONDS": "60", "REALTIME_STATE_TIMEOUT_SECONDS": "50"}
    async with Instance(redis_url=redis_server.url, demo=True, settings=LONG_LEASE | patient) as one:
        async with client(one.url, token=token("ann")):
            await asyncio.to_thread(redis_server.pause)
            os.kill(one.pid, signal.SIGINT)
            await asyncio.sleep(1)
            assert one.running
            os.kill(one.pid, signal.SIGINT)
            await asyncio.to_thread(one.wait, 15)


class PlainUvicorn(Instance):
    """The module of names, under uvicorn as it comes."""

    def _command(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        _, environment = super()._command(port)
        more = {
            "WEBSOCKET_MANAGER": "redis",
            "WEBSOCKET_REDIS_URL": str(self.redis_url),
            "DATABASE_URL": self.database_url,
            "REALTIME_DEMO": "true",
        }
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "realtime.main:app",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        return [*command, "--ws", "websockets-sansio"], {**environment, **more}


SHORT_LEASE = {
    "REALTIME_LEASE_SECONDS": "2",
    "REALTIME_STATE_TIMEOUT_SECONDS": "1",
    "WEBSOCKET_SERVER_PING_INTERVAL": "1",
    "WEBSOCKET_SERVER_PING_TIMEOUT": "1",
}
GHOSTS_GONE = 10.0


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("kind", [PlainUvicorn, Instance])
async def test_no_ghosts_stay_however_an_instance_ends(
    redis_server: RedisServer, kind: Callable[..., Instance], end: str
) -> None:
    first = kind(redis_url=redis_server.url, demo=True, settings=SHORT_LEASE)
    second = Instance(
        redis_url=redis_server.url, database_url=first.database_url, demo=True, settings=SHORT_LEASE
    )
    async with first, second:
        async with (
            client(second.url, token=token("watcher")) as watcher,
            client(first.url, token=token("ann")),
            client(first.url, token=token("bob"), transports=("polling",)),
        ):
            await until(lambda: online(watcher) == {"watcher", "ann", "bob"})
            began = time.monotonic()
            if end == "SIGKILL":
                first.kill()
                await until(lambda: online(watcher) == {"watcher"}, GHOSTS_GONE, what="the ghosts to go")
            else:
                os.kill(first.pid, signal.SIGTERM)
                await until(lambda: online(watcher) == {"watcher"}, GHOSTS_GONE, what="the ghosts to go")
                await asyncio.to_thread(first.wait, 20)
                assert "Traceback" not in first.log
            assert time.monotonic() - began < GHOSTS_GONE + SLACK


async def test_a_client_that_comes_while_the_instance_ends_is_sent_away(redis_server: RedisServer) -> None:
    async with Instance(redis_url=redis_server.url, demo=True, settings=LONG_LEASE) as one:
        async with client(one.url, token=token("ann")):
            ending = asyncio.create_task(terminated(one))
            sio = socketio.AsyncClient(reconnection=False)
            # A websocket that closes before its first packet is a TypeError in python-engineio's client.
            with pytest.raises((socketio.exceptions.ConnectionError, TypeError)):
                for _ in range(1000):
                    await sio.connect(one.url, socketio_path="/ws/socket.io", auth={"token": token("late")})
                    await sio.disconnect()
            await sio.shutdown()
            assert (await ending)[0] == 0
        assert "Traceback" not in one.log
        assert redis_server.execute("HLEN", LEASES.replace("leases", "sessions")) == 0


def test_the_module_of_names_refuses_wrong_settings_like_the_command_line() -> None:
    folder = str(Path(realtime.__file__).parent.parent)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": folder, "WEBUI_SECRET_KEY": "short"}
    command = [sys.executable, "-m", "uvicorn", "realtime.main:app", "--port", str(free_port())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode != 0
    assert "WEBUI_SECRET_KEY" in done.stderr
