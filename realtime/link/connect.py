"""Clients for a single Redis or a Sentinel group, and which of all kinds the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.sentinel import Sentinel

from realtime.errors import SettingsError

from .cluster import ClusterConnector
from .options import client_options, connection_options, url_options

if TYPE_CHECKING:
    from realtime.settings import Settings


class Connector(Protocol):
    """Makes clients. ``plain`` may lead to another server each time: call it anew after a failure."""

    def commands(self) -> Redis:
        """A client for the state's verbs, with a pool of connections."""

    async def plain(self) -> Redis:
        """A client of one server, for publishing or listening: in a cluster both reach every node."""

    async def aclose(self) -> None:
        """Closes what the connector keeps open itself; the clients it made are their owners' to close."""


class SingleConnector:
    """One server, by URL (redis, rediss, unix), or whatever ``make`` makes (a fake, for tests)."""

    def __init__(self, url: str, *, timeout: float = 2.0, make: Callable[[], Redis] | None = None) -> None:
        self._make = make
        self._options = {} if make is not None else url_options(url) | connection_options(timeout)

    def commands(self) -> Redis:
        return self._make() if self._make is not None else Redis.from_pool(ConnectionPool(**self._options))

    async def plain(self) -> Redis:
        return self.commands()

    async def aclose(self) -> None:
        return None


class SentinelConnector:
    """The primary that Sentinel names at the moment of connecting. The URL's host is the name of the group, its user,
    password, database and TLS are those of the servers; the Sentinels themselves are asked without."""

    def __init__(self, url: str, hosts: list[tuple[str, int]], *, timeout: float = 2.0) -> None:
        self._group = group_name(url)
        options = {name: value for name, value in url_options(url).items() if name not in ("host", "port")}
        options["ssl"] = options.pop("connection_class", None) is SSLConnection
        # A Sentinel that hangs must leave time to ask the others and the primary.
        each = timeout / (len(hosts) + 1)
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            hosts,
            sentinel_kwargs=client_options(each) | {"socket_timeout": each},
            **options | connection_options(timeout),
        )

    def commands(self) -> Redis:
        primary: Redis = self._sentinel.master_for(self._group)
        return primary

    async def plain(self) -> Redis:
        return self.commands()

    async def aclose(self) -> None:
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


def group_name(url: str) -> str:
    """What Sentinel calls the group: the URL's host with its capitals, which urllib takes away."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return unquote(host.partition(":")[0])


def connector_from_settings(settings: Settings) -> Connector:
    """The connector that the settings ask for."""
    timeout = settings.realtime_state_timeout_seconds
    url = settings.redis_url
    if url is None:
        raise SettingsError(
            'WEBSOCKET_MANAGER: not "redis", so there is no Redis to connect to: set it and'
            " WEBSOCKET_REDIS_URL, or give --redis-url"
        )
    if settings.sentinels:
        return SentinelConnector(url, settings.sentinels, timeout=timeout)
    if settings.websocket_redis_cluster:
        return ClusterConnector(url, settings.state_key_prefix, timeout=timeout)
    return SingleConnector(url, timeout=timeout)
