"""Options of every client: those of the URL, and those that the layer relies on."""

from __future__ import annotations

from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.errors import SettingsError

from .parser import NoticingParser


def client_options(timeout: float) -> dict[str, Any]:
    """Options of every client: what is sent is never sent again silently.

    Only connecting is bounded here. Every use is bounded by its caller with ``asyncio.timeout``, which ends the
    connection, so that a late answer is nobody's; a ``socket_timeout`` would add a task to each command (Python 3.11),
    inside which a cancellation can get lost. Of protocol 3 nothing is needed, and with it redis-py asks for maintenance
    notifications at every connect and no longer looks for left-over data in pooled connections.
    """
    return {
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,
    }


def connection_options(timeout: float) -> dict[str, Any]:
    """The same for the connections of a pool, which ``Redis(…)`` does not take: they notice a reset too."""
    return client_options(timeout) | {"parser_class": NoticingParser}


def url_options(url: str) -> dict[str, Any]:
    """The connection options that a URL gives. Raises ``SettingsError`` for one that does not exist."""
    try:
        options: dict[str, Any] = dict(parse_url(url))
        ConnectionPool(**options | connection_options(1)).make_connection()  # type: ignore[no-untyped-call]  # connects to nothing yet
    except TypeError as error:
        unknown = str(error).rpartition(" ")[2]
        raise SettingsError(f"WEBSOCKET_REDIS_URL: redis-py has no connection option {unknown}") from None
    except (ValueError, RedisError) as error:
        raise SettingsError(f"WEBSOCKET_REDIS_URL: {error}") from None
    return options
