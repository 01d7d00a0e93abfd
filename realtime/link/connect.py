"""Clients for a single Redis, a Sentinel group or a Redis Cluster."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from realtime.errors import SettingsError

if TYPE_CHECKING:
    from realtime.settings import Settings

COMMAND_CONNECTIONS = 16
"""Connections of one instance for commands; more verbs than that wait their turn, within their time-out."""


class Connector(Protocol):
    """Makes clients. ``plain`` may lead to another server each time: call it anew after a failure."""

    def commands(self) -> Redis | RedisCluster:
        """A client for the state's verbs, with a pool of connections."""

    async def plain(self) -> Redis:
        """A client of one server, for publishing or listening: in a cluster both reach every node."""


class SingleConnector:
    """One server, by URL (redis, rediss, unix), or whatever ``make`` makes (a fake, for tests)."""

    def __init__(self, url: str, *, timeout: float = 2.0, make: Callable[..., Redis] | None = None) -> None:
        self._url = url
        self._timeout = timeout
        self._make = make

    def commands(self) -> Redis:
        if self._make is not None:
            return self._make()
        pool = BlockingConnectionPool.from_url(
            self._url,
            max_connections=COMMAND_CONNECTIONS,
            timeout=self._timeout,
            **client_options(self._timeout),
        )
        return Redis.from_pool(pool)

    async def plain(self) -> Redis:
        if self._make is not None:
            return self._make()
        return Redis.from_url(self._url, **client_options(self._timeout))


class SentinelConnector:
    """The primary that Sentinel names at the moment of connecting. The URL's host is the name of the group."""

    def __init__(self, url: str, hosts: list[tuple[str, int]], *, timeout: float = 2.0) -> None:
        parts = urlsplit(url)
        self._group = parts.hostname or "mymaster"
        options = client_options(timeout)
        options |= {
            "db": int(parts.path.strip("/") or 0),
            "username": parts.username,
            "password": parts.password,
        }
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            hosts, sentinel_kwargs={"socket_timeout": timeout}, **options
        )

    def commands(self) -> Redis:
        primary: Redis = self._sentinel.master_for(self._group)
        return primary

    async def plain(self) -> Redis:
        return self.commands()


class ClusterConnector:
    """A Redis Cluster. All state keys share a hash tag, so one shard holds them; messages pass through any node."""

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        self._url = url
        self._timeout = timeout
        self._nodes: list[tuple[str, int]] = []

    def commands(self) -> RedisCluster:
        options = client_options(self._timeout)
        return RedisCluster.from_url(self._url, max_connections=COMMAND_CONNECTIONS, **options)

    async def plain(self) -> Redis:
        parts = urlsplit(self._url)
        options = client_options(self._timeout)
        options |= {"username": parts.username, "password": parts.password, "ssl": parts.scheme == "rediss"}
        cluster = self.commands()
        try:
            await cluster.initialize()
            self._nodes = [(str(node.host), int(node.port)) for node in cluster.get_primaries()]
        finally:
            await cluster.aclose()
        host, port = random.choice(self._nodes)
        return Redis(host=host, port=port, **options)


def client_options(timeout: float) -> dict[str, Any]:
    """Options of every client: nothing waits longer than ``timeout`` seconds, nothing is sent twice silently."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "decode_responses": False,
    }


def connector_from_settings(settings: Settings) -> Connector:
    """The connector that the settings ask for."""
    timeout = settings.realtime_state_timeout_seconds
    url = settings.redis_url
    if url is None:
        raise SettingsError('WEBSOCKET_MANAGER: not "redis", so there is no Redis to connect to')
    if settings.sentinels:
        return SentinelConnector(url, settings.sentinels, timeout=timeout)
    if settings.websocket_redis_cluster:
        return ClusterConnector(url, timeout=timeout)
    return SingleConnector(url, timeout=timeout)
