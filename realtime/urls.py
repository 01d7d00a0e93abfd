"""Addresses of Redis and of the database: what is accepted, what the drivers want, what may be logged."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")
DATABASE_SCHEMES = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def check_redis_url(url: str) -> str:
    """Return `url` if redis-py could connect to it once its scheme is translated; else raise ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or "://" not in url:
        raise ValueError("unknown scheme")
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("no socket path")
        return url
    if not parts.hostname:
        raise ValueError("no host")
    if parts.port == 0:  # reading .port raises ValueError for anything that is no port number at all
        raise ValueError("no port")
    if parts.path not in ("", "/") and not parts.path[1:].isdecimal():
        raise ValueError("no database number")
    return url


def redis_client_url(url: str) -> str:
    """`url` in the schemes that redis-py knows: Valkey speaks the same protocol under another name."""
    scheme, separator, rest = url.partition("://")
    return {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme) + separator + rest


def redis_database(url: str) -> int:
    """The database number that `url` selects, 0 if it names none."""
    parts = urlsplit(url)
    for name, value in parse_qsl(parts.query):
        if name == "db" and value.isdecimal():
            return int(value)
    path = parts.path[1:]
    return int(path) if parts.scheme != "unix" and path.isdecimal() else 0


def async_database_url(url: str) -> str:
    """`url` with the asynchronous driver of its database, and libpq's `sslmode` under asyncpg's name `ssl`.

    Raises ValueError for another database, or for SQLite without a file: each connection would get a database
    of its own.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in DATABASE_SCHEMES:
        raise ValueError("unknown scheme")
    driver = DATABASE_SCHEMES[scheme]
    address, question, query = rest.partition("?")
    if driver.startswith("sqlite"):
        if not address.startswith("/") or address == "/" or ":memory:" in rest or "mode=memory" in query:
            raise ValueError("no file")
        return f"{driver}://{rest}"
    if urlsplit(f"postgresql://{address}").port == 0:
        raise ValueError("no port")
    if question:
        renamed = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(query)]
        address += "?" + urlencode(renamed, safe="/:,")
    return f"{driver}://{address}"


def redacted(url: str) -> str:
    """`url` without what may be secret in it: user, password and query."""
    return re.sub(r"\?.*", "?***", re.sub(r"(?<=://).*@", "***@", url, flags=re.S), flags=re.S)


def check_origin(origin: str) -> str:
    """Return `origin` as a browser sends it (RFC 6454: scheme, host, port; no path), or raise ValueError."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("no origin")
    if (
        parts.query
        or parts.fragment
        or "@" in parts.netloc
        or parts.port == 0
        or re.search(r"[\s,*]", origin)
    ):
        raise ValueError("no origin")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def parse_origins(text: str) -> list[str]:
    """The origins in `text`, separated by ";"; ValueError if one is none."""
    return [check_origin(word.strip()) for word in text.split(";") if word.strip()]


def parse_sentinels(text: str, default_port: int) -> list[tuple[str, int]]:
    """Host and port of each Sentinel in `text` ("a, b:26380, [::1]:26381"); ValueError if one is none."""
    found = []
    for word in text.split(",") if text else []:
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", word.strip())
        if match is None or not 0 < (port := int(match[3] or default_port)) < 65536:
            raise ValueError("no Sentinel")
        found.append((match[1] or match[2], port))
    return found
