"""Dictionaries and a lock that all instances share by way of Redis."""

from __future__ import annotations

import json
import uuid
from typing import Any

import redis

Pool = dict[str, Any]


class RedisDict:
    """A dictionary in a Redis hash: values are JSON."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)

    def __getitem__(self, key: str) -> Any:
        value = self.redis.hget(self.name, key)
        if value is None:
            raise KeyError(key)
        return json.loads(value)

    def __setitem__(self, key: str, value: Any) -> None:
        self.redis.hset(self.name, key, json.dumps(value))

    def __delitem__(self, key: str) -> None:
        if not self.redis.hdel(self.name, key):
            raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        return bool(self.redis.hexists(self.name, key))

    def __len__(self) -> int:
        return int(self.redis.hlen(self.name))

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        return list(self.redis.hkeys(self.name))

    def items(self) -> list[tuple[str, Any]]:
        return [(key, json.loads(value)) for key, value in self.redis.hgetall(self.name).items()]


class RedisLock:
    """Held by one instance at a time, until it lets go or ``timeout`` seconds pass."""

    def __init__(self, name: str, url: str, timeout: int) -> None:
        self.name = name
        self.lock_id = str(uuid.uuid4())
        self.timeout = timeout
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)

    def acquire(self) -> bool:
        return bool(self.redis.set(self.name, self.lock_id, nx=True, ex=self.timeout))

    def renew(self) -> bool:
        return bool(self.redis.set(self.name, self.lock_id, xx=True, ex=self.timeout))

    def release(self) -> None:
        if self.redis.get(self.name) == self.lock_id:
            self.redis.delete(self.name)
