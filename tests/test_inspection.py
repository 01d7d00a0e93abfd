"""`python -m realtime inspect`: what it shows of a fleet on a real Redis, what looks wrong, and that it only reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis.asyncio import Redis

from realtime import __main__ as command
from realtime.inspection.findings import findings
from realtime.inspection.text import MOST_LINES, as_text, duration
from realtime.inspection.view import Kind, NotFound, view_of
from realtime.state import RedisState, Session
from realtime.state.survey import Survey, survey
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.events.lab import ask, people, person
from tests.state.backends import dump, linked
from tests.support.stack import client, make_settings, running

HOUR_MS = 3_600_000


@dataclass
class Ground:
    """A state on a real server with three sessions under two leases, and means to break it."""

    state: RedisState
    redis: Redis
    look: Callable[[], Awaitable[Survey]]

    def key(self, name: str) -> str:
        return f"{self.state.root}:{name}"

    async def codes(self) -> list[str]:
        return [each.code for each in findings(await self.look())]


@pytest.fixture
async def ground(redis_url: str, redis_prefix: str) -> AsyncIterator[Ground]:
    async with linked("redis", redis_url) as (link, redis):
        root = f"{{{redis_prefix}:realtime}}"
        state = RedisState(link, root=root)
        for lease in ("api-1~1.aaa", "api-2~1.bbb"):
            await state.acquire(lease, HOUR_MS)
        await state.register(
            "api-1~1.aaa", [session("ann-1", "ann", "red"), session("bob-1", "bob", "red", "blue")]
        )
        await state.register("api-2~1.bbb", [session("ann-2", "ann", "red")])
        await state.touch("ann-1", ["gpt"], ttl_ms=HOUR_MS)
        yield Ground(state, redis, lambda: survey(link, root))


def session(sid: str, user: str, *rooms: str) -> Session:
    return Session(sid, person(user), frozenset(rooms), jti=f"token-of-{sid}")


# What is shown


async def test_a_fleet_shows_who_is_where_under_which_lease(ground: Ground) -> None:
    view = view_of(await ground.look(), Kind.FLEET)
    assert view.totals == {"users": 2, "sessions": 3, "instances": 2, "rooms": 2, "models": 1}
    assert [(each.instance, each.state, each.sessions, each.users) for each in view.leases] == [
        ("api-1", "held", 2, 2),
        ("api-2", "held", 1, 1),
    ]
    assert all(3500 < (each.seconds or 0) <= 3600 for each in view.leases)
    assert (view.rooms, view.models, view.findings) == ({"red": 2, "blue": 1}, ("gpt",), ())
    snapshot = await ground.state.snapshot()
    assert (view.epoch, view.version, view.schema) == (snapshot.epoch, snapshot.version, "1")


async def test_a_user_an_instance_and_a_session_show_their_sessions_only(ground: Ground) -> None:
    seen = await ground.look()
    assert [each.sid for each in view_of(seen, Kind.USER, "ann").sessions] == ["ann-1", "ann-2"]
    assert [each.sid for each in view_of(seen, Kind.INSTANCE, "api-1").sessions] == ["ann-1", "bob-1"]
    view = view_of(seen, Kind.SESSION, "ann-1")
    [it] = view.sessions
    assert (it.user, it.instance, it.lease, it.lease_state) == ("ann", "api-1", "api-1~1.aaa", "held")
    assert (it.rooms, it.models, it.token) == (("red",), ("gpt",), "token-of-ann-1")
    assert 0 <= view.now - (it.registered or 0) < 60
    assert view.rooms == {"red": 2}
    assert [each.lease for each in view.leases] == ["api-1~1.aaa"]
    for kind, name in ((Kind.USER, "zoe"), (Kind.INSTANCE, "api-9"), (Kind.SESSION, "none")):
        with pytest.raises(NotFound, match=name):
            view_of(seen, kind, name)


async def test_the_text_names_all_of_it_in_columns(ground: Ground) -> None:
    lines = as_text(view_of(await ground.look(), Kind.USER, "ann")).splitlines()
    assert lines[0] == "user ann"
    assert "2 users, 3 sessions, 2 instances, 2 rooms, 1 model" in lines[1]
    [head] = [line for line in lines if "registered" in line]
    [row] = [line for line in lines if line.startswith("  ann-1")]
    for title, value in (
        ("user", "ann"),
        ("instance", "api-1"),
        ("token", "token-of-ann-1"),
        ("uses", "gpt"),
    ):
        assert row[head.index(title) :].startswith(value)
    assert "s ago)" in row
    assert lines[-1] == "nothing looks wrong"
    assert "nothing was ever registered" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (3 * 60 + 12, "3 min 12 s"),
        (90000, "1 d 1 h"),
        (86400, "1 d"),
        (-5, "0 s"),
    ],
)
def test_a_duration_is_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# What looks wrong

Break = Callable[[Ground], Awaitable[Any]]
BREAKS: dict[str, tuple[Break, set[str], str]] = {
    "the record of a session is gone": (
        lambda g: g.redis.hdel(g.key("sessions"), "ann-1"),
        {"no-record", "room-count", "model-of-gone", "usage-of-gone"},
        "ann",
    ),
    "the record of a session is nonsense": (
        lambda g: g.redis.hset(g.key("sessions"), "bob-1", "nonsense"),
        {"unreadable", "room-count"},
        "bob",
    ),
    "a user misses a session": (
        lambda g: g.redis.hset(g.key("users"), "ann", "ann-2"),
        {"not-online"},
        "ann",
    ),
    "a user has another one's session": (
        lambda g: g.redis.hset(g.key("users"), "eve", "ann-1"),
        {"wrong-user"},
        "eve",
    ),
    "a lease misses a session": (
        lambda g: g.redis.zrem(g.key("instance:api-1~1.aaa"), "bob-1"),
        {"not-indexed"},
        "bob",
    ),
    "a lease lists another one's session": (
        lambda g: g.redis.zadd(g.key("instance:api-2~1.bbb"), {"bob-1": 1}),
        {"no-record"},
        "bob",
    ),
    "a forgotten index of a lease": (
        lambda g: g.redis.zadd(g.key("instance:api-7~1.ccc"), {"old-1": 1}),
        {"no-record"},
        "",
    ),
    "a lease is unknown": (
        lambda g: g.redis.zrem(g.key("leases"), "api-2~1.bbb"),
        {"no-lease"},
        "ann",
    ),
    "a room counts too many": (
        lambda g: g.redis.hincrby(g.key("room:red"), "ann", 1),
        {"room-count"},
        "ann",
    ),
    "a room is lost": (lambda g: g.redis.delete(g.key("room:blue")), {"room-count"}, "bob"),
    "a room that nobody is in": (
        lambda g: g.redis.hset(g.key("room:green"), "eve", 1),
        {"room-count"},
        "eve",
    ),
    "a model is held by nobody": (
        lambda g: g.redis.zadd(g.key("model:gpt"), {"old-1": 2**52}),
        {"model-of-gone"},
        "",
    ),
    "a model that nobody ends": (
        lambda g: g.redis.zadd(g.key("models"), {"gpt": 1}),
        {"model-overdue"},
        "",
    ),
    "an instance that stopped": (
        lambda g: g.redis.zadd(g.key("leases"), {"api-1~1.aaa": 1}),
        {"lease-ended"},
        "",
    ),
    "an instance that was given up": (lambda g: g.state.release("api-1~1.aaa"), {"not-reaped"}, ""),
    "two instances of one name": (
        lambda g: g.state.acquire("api-1~2.ddd", HOUR_MS),
        {"same-name"},
        "",
    ),
    "no instance lives": (
        lambda g: g.redis.zadd(g.key("leases"), {"api-1~1.aaa": 1, "api-2~1.bbb": 1}),
        {"no-instance", "lease-ended"},
        "",
    ),
    "another schema": (lambda g: g.redis.set(g.key("schema"), "9"), {"schema"}, ""),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_what_does_not_fit_together_is_found(ground: Ground, name: str) -> None:
    broken, codes, user = BREAKS[name]
    assert await ground.codes() == []
    await broken(ground)
    assert set(await ground.codes()) == codes
    seen = await ground.look()
    fleet = view_of(seen, Kind.FLEET)
    text = as_text(fleet)
    assert all(f"  {each.code}: {each.text}" in text for each in fleet.findings)
    if user:
        assert view_of(seen, Kind.USER, user).findings
        with contextlib.suppress(NotFound):
            other = "bob" if user != "bob" else "ann"
            assert not view_of(seen, Kind.USER, other).findings


async def test_sessions_of_an_instance_that_died_are_named_with_it(ground: Ground) -> None:
    await ground.redis.zadd(ground.key("leases"), {"api-1~1.aaa": 1})
    view = view_of(await ground.look(), Kind.INSTANCE, "api-1")
    [lease] = view.leases
    assert (lease.state, lease.sessions) == ("ended", 2)
    [finding] = view.findings
    assert "2 sessions are still there" in finding.text
    assert {"ann-1", "bob-1", "api-1"} == finding.about
    assert view_of(await ground.look(), Kind.SESSION, "bob-1").findings == (finding,)
    assert "api-1 (ended)" in as_text(view)


async def test_a_long_list_of_findings_is_cut_in_text_and_whole_in_json(ground: Ground) -> None:
    count = MOST_LINES + 7
    await ground.redis.hset(ground.key("usage"), mapping={f"old-{n}": "gpt" for n in range(count)})
    view = view_of(await ground.look(), Kind.FLEET)
    assert len(view.findings) == count
    assert as_text(view).endswith("\n  and 7 more: --json shows all")


async def test_a_fleet_that_is_busy_while_it_is_looked_at_has_nothing_wrong(ground: Ground) -> None:
    """What is read is one moment, and keys that came since their names were asked for are read too."""
    done = False

    async def churn(number: int) -> None:
        at = 0
        while not done:
            at += 1
            sid = f"busy-{number}-{at}"
            rooms = [f"room-{number}-{at}", "red"]
            await ground.state.register("api-1~1.aaa", [session(sid, f"user-{number}", *rooms)])
            await ground.state.touch(sid, [f"model-{number}-{at}"], ttl_ms=HOUR_MS)
            await ground.state.unregister([sid])

    tasks = [asyncio.create_task(churn(number)) for number in range(4)]
    versions = set()
    try:
        for _ in range(40):
            seen = await ground.look()
            versions.add(seen.version)
            assert findings(seen) == []
    finally:
        done = True
        await asyncio.gather(*tasks)
    assert len(versions) > 30, "there was something to see"


# The command


async def asked(*words: str, **environment: str) -> Result:
    """What the command says; it has a loop of its own."""
    names = (
        "WEBSOCKET_MANAGER",
        "WEBSOCKET_REDIS_URL",
        "WEBUI_SECRET_KEY",
        "REDIS_KEY_PREFIX",
        "REALTIME_DEMO",
    )
    env = dict.fromkeys(names) | environment
    return await asyncio.to_thread(
        CliRunner().invoke, command.main, ["inspect", *words], env=env, prog_name="python -m realtime"
    )


async def test_the_command_shows_two_living_instances_and_says_by_its_status_if_all_is_well(
    redis_url: str, redis_prefix: str
) -> None:
    directory = people(ann=["red"])

    def settings(name: str) -> Any:
        return make_settings(redis_url, redis_key_prefix=redis_prefix, realtime_instance_name=name)

    async def inspect(*words: str) -> Result:
        return await asked(*words, "--redis-url", redis_url, REDIS_KEY_PREFIX=redis_prefix)

    async with (
        running(settings("api-1"), directory) as one,
        running(settings("api-2"), directory) as two,
        client(one.url, "ann") as here,
        client(two.url, "ann") as there,
    ):
        await ask(here, "usage", {"model": "gpt"})
        result = await inspect("user", "ann")
        assert (result.exit_code, result.stderr) == (0, "")
        for word in (here.sid, there.sid, "api-1", "api-2", "channel:red", "nothing looks wrong"):
            assert word in result.stdout
        result = await inspect("--json", "fleet")
        shown = json.loads(result.stdout)
        assert result.exit_code == 0
        assert [lease["instance"] for lease in shown["leases"]] == ["api-1", "api-2"]
        assert shown["totals"]["sessions"] == 2
        result = await inspect("session", "nobody-s")
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr == "realtime: no session nobody-s is registered in this fleet\n"
        root = one.server.state.root  # type: ignore[attr-defined]
        await one.server.link.run(lambda redis: redis.hset(f"{root}:usage", "old", "gpt"))  # type: ignore[union-attr]
        result = await inspect("fleet")
        assert result.exit_code == 1
        assert "1 thing looks wrong:\n  usage-of-gone:" in result.stdout


async def test_the_command_only_reads(redis_server: RedisServer) -> None:
    """With a user who may not write, on a state in which much is wrong; and nothing is other than before."""
    prefix, password = "fleet", "reads"
    async with linked("redis", redis_server.url) as (link, redis):
        root = f"{{{prefix}:realtime}}"
        state = RedisState(link, root=root)
        await state.acquire("api-1~1.aaa", 1)
        await state.register("api-1~1.aaa", [session("ann-1", "ann", "red")])
        await redis.hset(f"{root}:usage", "old", "gpt")
        rules = ["on", f">{password}", "~*", "-@all", "+@read", "+@connection", "+multi", "+exec", "+time"]
        await redis.execute_command("ACL", "SETUSER", "reader", *rules)
        before = await dump(redis, root)
        url = redis_server.url.replace("redis://", f"redis://reader:{password}@")
        result = await asked("fleet", "--redis-url", url, REDIS_KEY_PREFIX=prefix)
        assert result.exit_code == 1, result.stderr
        assert "lease-ended" in result.stdout
        assert await dump(redis, root) == before


async def test_everything_is_read_at_one_moment(redis_server: RedisServer) -> None:
    async with linked("redis", redis_server.url) as (link, redis):
        state = RedisState(link, root="{fleet:realtime}")
        await state.acquire("api-1~1.aaa", HOUR_MS)
        await state.register("api-1~1.aaa", [session("ann-1", "ann", "red")])
        await redis.config_resetstat()
        await survey(link, state.root)
        calls = {name: used["calls"] for name, used in (await redis.info("commandstats")).items()}
        assert calls["cmdstat_exec"] == calls["cmdstat_multi"] == calls["cmdstat_time"] == 1


async def test_what_the_command_cannot_do_it_says_in_a_sentence_and_by_its_status() -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    for words, status, sentence in (
        (("fleet", "--redis-url", nowhere), 3, "cannot be reached"),
        (("fleet",), 2, 'WEBSOCKET_MANAGER: not "redis"'),
        (("fleet", "--redis-url", "nonsense"), 2, "WEBSOCKET_REDIS_URL"),
        (("fleet", "api-1", "--redis-url", nowhere), 2, "the fleet has no NAME"),
        (("user", "--redis-url", nowhere), 2, "give a NAME"),
        (("room", "red", "--redis-url", nowhere), 2, "'room' is not one of"),
    ):
        result = await asked(*words)
        assert (result.exit_code, result.stdout) == (status, ""), result.stderr
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr


async def test_an_empty_redis_is_an_empty_fleet(redis_url: str, redis_prefix: str) -> None:
    result = await asked("fleet", "--redis-url", redis_url, REDIS_KEY_PREFIX=redis_prefix)
    assert result.exit_code == 0
    assert "0 users, 0 sessions, 0 instances" in result.stdout
    assert "epoch none, version 0, schema none" in result.stdout
    assert "is it the right Redis, database number and REDIS_KEY_PREFIX?" in result.stdout
    assert "nothing looks wrong" not in result.stdout
