"""The shared state in Redis: each verb is one Lua script, or one plain command, and so one round trip."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from realtime.errors import LeaseLost, SchemaMismatch, StateUnavailable
from realtime.link import RedisLink

from . import codec
from .types import (
    SCHEMA,
    ChangeListener,
    Lease,
    Outcome,
    ReadyListener,
    Reaped,
    Registered,
    Renewal,
    Session,
    Snapshot,
    Token,
)

log = logging.getLogger(__name__)

OLDEST_REDIS = (6, 2)


class Script:
    """A script of ``scripts/`` with the prelude before it, called by its digest."""

    def __init__(self, name: str) -> None:
        folder = resources.files("realtime.state") / "scripts"
        self.name = name
        self.source = (folder / "_prelude.lua").read_text() + "\n" + (folder / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def load_scripts() -> dict[str, Script]:
    """All shipped scripts by name."""
    folder = resources.files("realtime.state") / "scripts"
    names = [entry.name.removesuffix(".lua") for entry in folder.iterdir() if entry.name.endswith(".lua")]
    return {name: Script(name) for name in sorted(names) if not name.startswith("_")}


class RedisState:
    """``State`` over Redis. ``root`` begins every key and separates fleets that share a server; on a cluster it must
    be one hash tag, such as ``{open-webui:realtime}``."""

    def __init__(self, link: RedisLink, *, root: str, schema: str = SCHEMA) -> None:
        self._link = link
        self._schema = schema
        self.root = root
        self.clock_offset_ms = 0
        self._scripts = load_scripts()

    async def start(self) -> None:
        info = await self._link.run(_info)
        if not info:
            log.warning("Redis refuses INFO: its version and maxmemory-policy could not be checked")
            return
        found = str(info["redis_version"])
        if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_REDIS:
            raise StateUnavailable(
                f"Redis {found} is too old: {'.'.join(map(str, OLDEST_REDIS))} or newer is needed"
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys-"):
            log.warning(
                "Redis may evict sessions: maxmemory-policy is %s, set it to noeviction or volatile-*", policy
            )

    async def close(self) -> None:
        return None

    def listen(self, on_change: ChangeListener, on_ready: ReadyListener) -> None:
        def receive(message: bytes) -> None:
            try:
                change = codec.parse_change(message)
            except ValueError as error:
                log.warning(
                    "what came on the channel of changes is none, taking a snapshot instead: %s", error
                )
                on_ready()
            else:
                on_change(change)

        self._link.subscriber.listen(f"{self.root}:changes", receive, on_ready)

    # Leases

    async def acquire(self, lease_id: str, ttl_ms: int) -> Lease:
        reply = await self._call("acquire", lease_id, self._schema, ttl_ms, secrets.token_hex(8))
        if reply[0] == "schema":
            raise SchemaMismatch(
                f"the fleet under {self.root} has state of schema {reply[1]}, this instance of {self._schema}: "
                "stop the others first, or set another REDIS_KEY_PREFIX"
            )
        return Lease(lease_id, reply[1], int(reply[2]), int(reply[3]))

    async def renew(self, lease_id: str, ttl_ms: int) -> Renewal:
        held, epoch, version, sessions, now, stood, reapable = await self._call("renew", lease_id, ttl_ms)
        return Renewal(held == "ok", epoch, int(version), int(sessions), int(now), int(stood), int(reapable))

    async def release(self, lease_id: str) -> None:
        await self._call("release", lease_id)

    async def leases(self) -> dict[str, int]:
        rows = await self._command(lambda r: r.zrange(f"{self.root}:leases", 0, -1, withscores=True))
        return {_text(row[0]): int(row[1]) for row in rows}

    async def reap(self, limit: int = 500, *, judge: str = "") -> Reaped:
        removed, more = await self._call("reap", limit, judge)
        return Reaped(int(removed), bool(more))

    # Sessions

    async def register(self, lease_id: str, sessions: list[Session], *, cap: int = 0) -> Registered:
        fields = [field for session in sessions for field in codec.session_fields(session)]
        reply = await self._call("register", lease_id, cap, *fields)
        if reply[0] == "lost":
            raise LeaseLost(f"the lease {lease_id} was reaped: take a new one and register again")
        return Registered(reply[1], int(reply[2]), int(reply[3]), tuple(Outcome(word) for word in reply[4:]))

    async def unregister(self, sids: list[str]) -> None:
        await self._call("unregister", *sids)

    async def instance_sids(self, lease_id: str) -> frozenset[str]:
        sids = await self._command(lambda r: r.zrange(f"{self.root}:instance:{lease_id}", 0, -1))
        return frozenset(_text(sid) for sid in sids)

    async def session(self, sid: str) -> Session | None:
        record = await self._command(lambda r: r.hget(f"{self.root}:sessions", sid))
        return codec.parse_session(sid, _text(record)) if record else None

    async def sessions(self) -> dict[str, Session]:
        rows = await self._command(lambda r: r.hgetall(f"{self.root}:sessions"))
        return {_text(sid): codec.parse_session(_text(sid), _text(record)) for sid, record in rows.items()}

    async def sessions_of(self, user_id: str) -> list[Session]:
        reply = await self._call("sessions_of", user_id)
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [codec.parse_session(sid, record) for sid, record in pairs if record]

    async def users(self) -> dict[str, tuple[str, ...]]:
        rows = await self._command(lambda r: r.hgetall(f"{self.root}:users"))
        return {_text(user): tuple(_text(sids).split("\n")) for user, sids in rows.items()}

    async def room_users(self, rooms: list[str]) -> dict[str, frozenset[str]]:
        if not rooms:
            return {}
        reply = await self._call("room_users", *rooms)
        return {room: frozenset(users) for room, users in zip(rooms, reply, strict=True)}

    async def snapshot(self) -> Snapshot:
        epoch, version, users, models = await self._call("snapshot")
        return Snapshot(epoch, int(version), frozenset(users), frozenset(models))

    async def new_epoch(self, seen: str) -> str:
        return str(await self._call("new_epoch", seen, secrets.token_hex(8)))

    # Usage

    async def touch(self, sid: str, models: list[str], *, ttl_ms: int, cap: int = 0) -> Outcome:
        return Outcome(await self._call("touch", sid, ttl_ms, cap, *map(codec.checked, models)))

    async def models_in_use(self) -> list[str]:
        return [str(model) for model in await self._call("models")]

    async def usage(self) -> Mapping[str, Mapping[str, int]]:
        rows = await self._call("usage")
        return {
            row[0]: {sid: int(until) for sid, until in zip(row[1::2], row[2::2], strict=True)}
            for row in rows
            if len(row) > 1
        }

    async def sweep(self) -> int | None:
        due = int(await self._call("sweep"))
        return None if due < 0 else due

    # Revocation and locks

    async def revoke_token(self, jti: str, until_ms: int) -> None:
        await self._call("revoke", "t", codec.checked(jti), until_ms)

    async def revoke_user(self, user_id: str) -> None:
        await self._call("revoke", "u", codec.checked(user_id))

    async def revoked(self, tokens: list[Token]) -> list[bool]:
        if not tokens:
            return []
        args: list[str] = []
        for token in tokens:
            issued = "" if token.issued_at_ms is None else str(token.issued_at_ms)
            args += [token.user_id, token.jti or "", issued]
        return [bool(flag) for flag in await self._call("revoked", *args)]

    async def lock_acquire(self, name: str, owner: str, ttl_ms: int) -> int | None:
        return int(await self._call("lock_acquire", name, owner, ttl_ms)) or None

    async def lock_renew(self, name: str, owner: str, ttl_ms: int) -> bool:
        return bool(await self._call("lock_renew", name, owner, ttl_ms))

    async def lock_release(self, name: str, owner: str) -> bool:
        return bool(await self._call("lock_release", name, owner))

    # Inside

    async def _call(self, name: str, *args: str | int) -> Any:
        """Runs a script. Only the first call after Redis forgot it sends its text: a second trip, once."""
        script = self._scripts[name]
        try:
            reply = await self._link.run(
                lambda r: r.evalsha(script.sha, 1, self.root, self.clock_offset_ms, *args)
            )
        except NoScriptError:
            reply = await self._link.run(
                lambda r: r.eval(script.source, 1, self.root, self.clock_offset_ms, *args)
            )
        return _decoded(reply)

    async def _command(self, command: Callable[[Any], Any]) -> Any:
        return await self._link.run(command)


async def _info(client: Any) -> dict[str, Any]:
    """What the server says of itself; nothing if it does not let us ask."""
    answers: dict[str, Any] = {}
    for section in ("server", "memory"):
        try:
            answers |= await client.info(section)
        except ResponseError:
            return {}
    return answers


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list):
        return [_decoded(item) for item in reply]
    return reply
