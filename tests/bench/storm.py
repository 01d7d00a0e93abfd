"""A connect storm: many clients of distinct users come to two instances at once, by websocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from realtime.auth import create_token
from realtime.link import RedisLink, SingleConnector
from realtime.settings import load_settings
from realtime.state import RedisState
from sim.processes.instances import Fleet, Instance
from sim.processes.redis import RedisServer

IN_FLIGHT = 100
SETTLE_SECONDS = 90.0
HOLD_SECONDS = 1.0


@dataclass(slots=True)
class RawClient:
    """Speaks just enough of the protocol, and keeps only the last list as it came."""

    user_id: str
    last_list: str = ""
    received: int = 0
    connected: bool = False
    failed: str = ""

    def take(self, packet: str) -> str | None:
        """Counts a packet; returns what must be answered."""
        self.received += len(packet)
        if packet == "2":
            return "3"
        if packet.startswith('42["user-list"'):
            self.last_list = packet
        elif packet.startswith("40"):
            self.connected = True
        elif packet.startswith("44"):
            self.failed = packet
        return None

    def online(self) -> frozenset[str]:
        return frozenset(json.loads(self.last_list[2:])[1]["user_ids"]) if self.last_list else frozenset()


@dataclass(frozen=True, slots=True)
class Storm:
    """What one storm cost and how it ended."""

    clients: int
    cpu_ms_per_connect: float
    megabytes: float
    connect_seconds: float
    settle_seconds: float
    all_in_pool: bool
    all_lists_right: bool


async def storm(clients: int) -> Storm:
    """Two fresh instances over a fresh Redis, ``clients`` websocket clients; measured until every list is right."""
    async with RedisServer() as redis, Fleet(2, redis_url=redis.url, demo=True) as fleet:
        users = [f"user-{number:05d}" for number in range(clients)]
        everyone = [RawClient(user) for user in users]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            tokens = {u: create_token(u, fleet.instances[0].secret_key, expires_in=3600) for u in users}
            before = _cpu(fleet)
            began = time.monotonic()
            gate = asyncio.Semaphore(IN_FLIGHT)
            tasks = []
            for number, client in enumerate(everyone):
                instance = fleet.instances[number % 2]
                tasks.append(asyncio.create_task(_run(http, instance, client, tokens[client.user_id], gate)))
            await _until(lambda: all(c.connected or c.failed for c in everyone))
            connected_after = time.monotonic() - began
            wanted = frozenset(users)
            await _until(lambda: _settled(everyone, wanted))
            settled_after = time.monotonic() - began
            # What comes late counts too, and must not spoil what was right.
            await asyncio.sleep(HOLD_SECONDS)
            cpu = _cpu(fleet) - before
            received = sum(client.received for client in everyone)
            right = all(client.online() == wanted for client in everyone)
            in_pool = await _pool(redis.url) == wanted
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return Storm(
        clients, cpu * 1000 / clients, received / 1e6, connected_after, settled_after, in_pool, right
    )


def _settled(clients: list[RawClient], wanted: frozenset[str]) -> bool:
    """Lists are sorted, so equal ones are equal as text; that spares parsing thousands of them every time."""
    first = clients[0]
    return all(client.last_list == first.last_list for client in clients) and first.online() == wanted


async def _run(
    http: aiohttp.ClientSession, instance: Instance, client: RawClient, token: str, gate: asyncio.Semaphore
) -> None:
    url = f"{instance.url}/ws/socket.io/?EIO=4&transport=websocket"
    async with gate:
        socket = await http.ws_connect(url, max_msg_size=0, autoping=False, compress=0)
        await socket.receive_str(timeout=30)
        await socket.send_str("40" + json.dumps({"token": token}))
        while not client.connected and not client.failed:
            client.take(await socket.receive_str(timeout=30))
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT and (answer := client.take(message.data)) is not None:
            await socket.send_str(answer)


async def _pool(redis_url: str) -> frozenset[str]:
    link = RedisLink(SingleConnector(redis_url))
    try:
        return frozenset(await RedisState(link, root=load_settings(demo=True).state_key_prefix).users())
    finally:
        await link.close()


def _cpu(fleet: Fleet) -> float:
    return sum(instance.cpu_seconds() for instance in fleet.instances)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SETTLE_SECONDS):
        while not true():
            await asyncio.sleep(0.05)
