"""Each shipped script does on fakeredis, byte for byte, what it does on a real server.

Time cannot be the same on both. So every call has a time of its own, far from the next one's, and no two times that a
sequence makes lie near each other: rounded, they are equal on both, and their order is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from realtime.state.redis import load_scripts
from tests.state.backends import dump, linked, server_ms
from tests.state.budget import SECONDS, examples

SCRIPTS = load_scripts()
START = 2_000_000_000_000
APART = 1_000_000_000
"""Milliseconds between two calls."""
GRAIN = 10_000_000
"""Two times of a sequence differ by this much at least, so that it may take an hour."""

NASTY = [
    "ann",
    "Zoë 😀",
    "a b",
    'say "x"',
    "it's",
    "back\\slash\\",
    "%s %d %%",
    "{}",
    "{a}b",
    "1234567890123456",
    "-1",
    "*",
    "a\u2028b",
]
names = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
)
some = st.sampled_from(NASTY[:5])
"""Names that come again and again."""
leases = st.sampled_from(["api-1~1.abc", 'api "2"~1'])
counts = st.sampled_from(["0", "1", "2", "9007199254740991"])
durations = st.integers(0, 4).map(lambda number: number * APART + APART // 2)


@dataclass(frozen=True)
class Later:
    """A number of milliseconds that is made different in each call."""

    ms: int


Call = tuple[str, list[Any]]


def flat(lists: list[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


session = st.tuples(
    some | names,  # sid
    some,  # user
    st.sampled_from(["{}", '{"name":"\\u00eb \\"x\\"","iat":1234567890123456,"jti":null}']),
    st.just("") | some,
    st.sampled_from(["", "1", str(START + 3 * APART), "1234567890123456"]),
    st.lists(some | names, max_size=3, unique=True).map(lambda rooms: "\n".join(sorted(rooms))),
).map(list)

CALLS: dict[str, st.SearchStrategy[list[Any]]] = {
    "acquire": st.tuples(
        leases, st.sampled_from(["1", "1", "2"]), durations.map(Later), st.sampled_from(["e1", "e2"])
    ).map(list),
    "lock_acquire": st.tuples(some, some, durations.map(Later)).map(list),
    "lock_release": st.tuples(some, some).map(list),
    "lock_renew": st.tuples(some, some, durations.map(Later)).map(list),
    "models": st.just([]),
    "new_epoch": st.tuples(st.sampled_from(["e1", "e2", ""]), st.sampled_from(["e3", "e1"])).map(list),
    "reap": st.tuples(st.sampled_from(["0", "1", "2", "500"]), st.just("") | leases).map(list),
    "register": st.tuples(leases, counts, st.lists(session, max_size=4).map(flat)).map(
        lambda parts: [parts[0], parts[1], *parts[2]]
    ),
    "release": leases.map(lambda lease: [lease]),
    "renew": st.tuples(leases, durations.map(Later)).map(list),
    "revoke": st.tuples(
        st.just("t"), some, st.sampled_from(["9007199254740991", "1234567890123456", "1"])
    ).map(list)
    | some.map(lambda user: ["u", user]),
    "revoked": st.lists(
        st.tuples(some, st.just("") | some, st.sampled_from(["", "1", "1234567890123456"])).map(list),
        max_size=3,
    ).map(flat),
    "room_users": st.lists(some | names, max_size=4),
    "sessions_of": some.map(lambda user: [user]),
    "snapshot": st.just([]),
    "sweep": st.just([]),
    "touch": st.tuples(some, durations.map(Later), counts, st.lists(some | names, max_size=3)).map(
        lambda parts: [*parts[:3], *parts[3]]
    ),
    "unregister": st.lists(some, max_size=3),
    "usage": st.just([]),
}


def calls_of(names_of_scripts: list[str]) -> st.SearchStrategy[Call]:
    return st.sampled_from(names_of_scripts).flatmap(lambda name: st.tuples(st.just(name), CALLS[name]))


def sequences(name: str) -> st.SearchStrategy[list[Call]]:
    """Calls that fill the state, with those of one script in between and one at the end."""
    often = ["register", "register", "register", "touch", "touch", "acquire", name, name, name]
    first: list[Call] = [("acquire", ["api-1~1.abc", "1", Later(4 * APART + APART // 2), "e1"])]
    middle = st.lists(calls_of(often + sorted(CALLS)), min_size=8, max_size=30)
    return st.tuples(middle, CALLS[name]).map(lambda parts: [*first, *parts[0], (name, parts[1])])


def test_every_script_in_the_folder_is_compared() -> None:
    assert CALLS.keys() == SCRIPTS.keys()


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_does_the_same_on_fakeredis_and_on_a_real_server(
    name: str, redis_url: str, redis_prefix: str
) -> None:
    number = itertools.count()

    @examples(12)
    @given(calls=sequences(name))
    def same(calls: list[Call]) -> None:
        root = f"{{{redis_prefix}-{next(number)}:realtime}}"
        fake, real = asyncio.run(both(calls, redis_url, root))
        assert fake == real

    same()


async def both(calls: list[Call], url: str, root: str) -> list[dict[str, Any]]:
    seen = []
    for kind in ("fakeredis", "redis"):
        async with linked(kind, url) as (_link, client):
            seen.append(await play(client, root, calls))
    return seen


async def play(client: Redis, root: str, calls: list[Call]) -> dict[str, Any]:
    """Replies, published messages and the keys at the end, with the times in them rounded."""
    async with asyncio.timeout(20), client.pubsub() as pubsub:
        await pubsub.subscribe(f"{root}:changes")
        replies = []
        for at, (name, args) in enumerate(calls):
            offset = START + at * APART - await server_ms(client)
            args = [arg.ms + at * GRAIN if isinstance(arg, Later) else arg for arg in args]
            reply: Any = await client.eval(SCRIPTS[name].source, 1, root, str(offset), *args)
            replies.append((name, rounded(in_some_order(name, reply))))
        await client.publish(f"{root}:changes", "the end")
        published: list[bytes] = []
        async for message in pubsub.listen():
            if message["type"] == "message":
                published.append(message["data"])
            if published[-1:] == [b"the end"]:
                break
        content = await dump(client, root)
        if content:
            await client.delete(*[f"{root}:{key}" for key in content])
    news = rounded([message.split(b"\n") for message in published])
    return {"replies": replies, "published": news, "keys": rounded(content)}


def in_some_order(name: str, reply: Any) -> Any:
    """HKEYS has no defined order."""
    if name == "room_users":
        return [sorted(users) for users in reply]
    if name == "snapshot":
        return [*reply[:2], sorted(reply[2]), reply[3]]
    return reply


def rounded(value: Any) -> Any:
    """Times, and waits until them, to the nearest grain; all else as it is."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, bytes) and re.fullmatch(rb"2\d{12}", value):
        return rounded(int(value))
    if isinstance(value, int | float) and GRAIN / 2 < value < 2 * START:
        return ("time", round(value / GRAIN))
    return value


def test_scripts_are_loaded_where_python_refuses_weak_digests_for_security(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = hashlib.sha1

    def strict(data: bytes, *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return plain(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "sha1", strict)
    assert {name: script.sha for name, script in load_scripts().items()} == {
        name: script.sha for name, script in SCRIPTS.items()
    }
