"""Each verb is one command, in one message to the server: counted by the server itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from realtime.directory import User
from realtime.state import RedisState, Session, State, Token
from sim.processes.redis import RedisServer
from tests.state.backends import linked

ANN = User("ann", "", "", "")
NOT_VERBS = {"start", "close", "listen"}

VERBS: dict[str, Callable[[State], Awaitable[Any]]] = {
    "acquire": lambda state: state.acquire("two", 60_000),
    "renew": lambda state: state.renew("one", 60_000),
    "leases": lambda state: state.leases(),
    "register": lambda state: state.register("one", [Session("s2", ANN, frozenset({"r"}), "t", 1)], cap=5),
    "instance_sids": lambda state: state.instance_sids("one"),
    "session": lambda state: state.session("s1"),
    "sessions": lambda state: state.sessions(),
    "sessions_of": lambda state: state.sessions_of("ann"),
    "users": lambda state: state.users(),
    "room_users": lambda state: state.room_users(["r", "q"]),
    "snapshot": lambda state: state.snapshot(),
    "touch": lambda state: state.touch("s1", ["gpt", "llama"], ttl_ms=60_000, cap=5),
    "models_in_use": lambda state: state.models_in_use(),
    "usage": lambda state: state.usage(),
    "sweep": lambda state: state.sweep(),
    "unregister": lambda state: state.unregister(["s1", "s2"]),
    "release": lambda state: state.release("two"),
    "reap": lambda state: state.reap(),
    "new_epoch": lambda state: state.new_epoch("another"),
    "revoke_token": lambda state: state.revoke_token("t", 2**53),
    "revoke_user": lambda state: state.revoke_user("bob"),
    "revoked": lambda state: state.revoked([Token("ann", "t", 1), Token("bob", None, None)]),
    "lock_acquire": lambda state: state.lock_acquire("cleanup", "one", 60_000),
    "lock_renew": lambda state: state.lock_renew("cleanup", "one", 60_000),
    "lock_release": lambda state: state.lock_release("cleanup", "one"),
}


def counts(server: Redis) -> dict[str, int]:
    """What the server has been sent: messages read from clients, scripts called by digest, by text, and so on."""
    info: dict[str, Any] = server.info("everything")
    commands = {name.removeprefix("cmdstat_"): it["calls"] for name, it in info.items() if "cmdstat_" in name}
    return commands | {"messages": info["total_reads_processed"]}


def since(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was sent in between, besides the question itself."""
    sent = {name: count - before.get(name, 0) for name, count in after.items()}
    sent["messages"] -= 1
    sent.pop("info", None)
    return {name: count for name, count in sent.items() if count}


def test_all_verbs_are_counted() -> None:
    verbs = {name for name in vars(State) if not name.startswith("_")}
    assert verbs - NOT_VERBS == VERBS.keys()


async def test_each_verb_is_one_round_trip(redis_server: RedisServer) -> None:
    server = Redis(port=redis_server.port)
    async with linked("redis", redis_server.url) as (link, _):
        state = RedisState(link, root="{test:realtime}")
        for _ in range(2):
            await state.acquire("one", 60_000)
            await state.register("one", [Session("s1", ANN, frozenset({"r"}))])
            for verb in VERBS.values():
                await verb(state)
        await state.register("one", [Session("s1", ANN, frozenset({"r"}))])
        for name, verb in VERBS.items():
            before = counts(server)
            await verb(state)
            sent = since(before, counts(server))
            assert sent["messages"] == 1, name
            if "evalsha" in sent:
                assert sent["evalsha"] == 1, name  # what the script did is counted too
                assert "eval" not in sent, name
            else:
                assert list(sent.values()) == [1, 1], name
    server.close()


@pytest.mark.parametrize("name", ["register", "renew", "snapshot"])
async def test_scripts_that_the_server_forgot_are_sent_again_once(
    name: str, redis_server: RedisServer
) -> None:
    server = Redis(port=redis_server.port)
    async with linked("redis", redis_server.url) as (link, _):
        state = RedisState(link, root="{test:realtime}")
        await state.acquire("one", 60_000)
        await VERBS[name](state)
        server.script_flush()
        before = counts(server)
        await VERBS[name](state)
        sent = since(before, counts(server))
        assert (sent["evalsha"], sent["eval"], sent["messages"]) == (1, 1, 2)
        before = counts(server)
        await VERBS[name](state)
        sent = since(before, counts(server))
        assert (sent["evalsha"], sent.get("eval"), sent["messages"]) == (1, None, 1)
    server.close()
