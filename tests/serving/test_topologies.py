"""The layer on a real Redis Cluster and behind a real Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import socketio.exceptions
from redis.crc import key_slot

from realtime.directory import User
from realtime.link import connector_from_settings
from realtime.server import RealtimeServer
from realtime.state import Outcome, RedisState, Session, Token
from realtime.wire.channels import room_channel
from sim.processes.cluster import RedisCluster
from sim.processes.process import free_port, wait_until
from sim.processes.redis import RedisServer
from sim.processes.sentinel import RedisSentinelSet
from tests.link.lab import linked
from tests.support.stack import Client, Instance, client, make_settings, running

pytestmark = pytest.mark.e2e

TIMEOUT = 1.0
LEASE = 3.0
RECOVERY = 15.0
"""Generous: what a test with failovers needs on a busy machine."""


@contextlib.asynccontextmanager
async def pair(
    url: str, *, lease: float = LEASE, **settings: Any
) -> AsyncIterator[tuple[Instance, Instance]]:
    """Two instances of one fleet."""
    times = {"realtime_state_timeout_seconds": TIMEOUT, "realtime_lease_seconds": lease}
    made = [make_settings(url, **times, **settings) for _ in range(2)]
    async with running(made[0]) as one, running(made[1]) as two:
        yield one, two
        for instance in (one, two):
            assert not instance.server.tasks.failures, "a task died"


async def agreed(
    servers: list[RealtimeServer], clients: list[Client], users: set[str], within: float = RECOVERY
) -> None:
    """State, replicas and every client's last list hold exactly these users; every instance is ready."""
    wanted = {"user_ids": sorted(users)}
    seen: Any = None
    try:
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(Exception):
                    seen = (
                        [each.last("user-list") for each in clients],
                        [sorted(await server.state.users()) for server in servers],
                        [sorted(server.replica.users) for server in servers],
                        [await server.ready() for server in servers],
                    )
                    if (
                        all(each == wanted for each in seen[0])
                        and all(each == wanted["user_ids"] for each in seen[1] + seen[2])
                        and all(all(facts.values()) for facts in seen[3])
                    ):
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {wanted}; seen: {seen}") from None


async def everything_works(one: Instance, two: Instance) -> None:
    """Presence, rooms, emits, usage and calls between two instances."""
    async with (
        client(one.url, "ann", on_call=lambda data: {"answer": data["data"]}) as ann,
        client(two.url, "bob", transports=("polling",)) as bob,
    ):
        await agreed([one.server, two.server], [ann, bob], {"ann", "bob"})
        await ann.sio.emit("channel-events", {"channel_id": "general", "data": {"type": "typing"}})
        assert (await bob.wait_for("channel-events"))["user"]["id"] == "ann"
        await one.server.emit_to_users("news", 1, ["bob"])
        await bob.wait_for("news", lambda data: data == 1)
        assert await ann.sio.call("usage", {"model": "m"}) is None
        await bob.wait_for("usage", lambda data: data == {"models": ["m"]})
        await bob.wait_for("usage", lambda data: data == {"models": []})
        call = two.server.get_event_call(
            {"user_id": "ann", "session_id": ann.sid, "chat_id": "c", "message_id": "m"}
        )
        assert await call({"question": 1}) == {"answer": {"question": 1}}
        assert await two.server.get_user_ids_from_room("channel:general") == ["ann", "bob"]
        await one.server.enter_room_for_users("extra", ["ann", "bob"])
        await one.server.wire.emit("extra", 2, room="extra")  # from the same instance: in order
        for each in (ann, bob):
            await each.wait_for("extra")
        await one.server.disconnect_user("bob")
        await bob.wait_for("closing", lambda data: data["code"] == 4004)
        await agreed([one.server, two.server], [ann], {"ann"})


@pytest.fixture
def cluster(redis_binary: Path) -> Any:
    with RedisCluster(binary=redis_binary, options={"cluster-require-full-coverage": "no"}) as made:
        yield made


def owner_and_others(cluster: RedisCluster) -> tuple[RedisServer, list[RedisServer]]:
    """The node that holds the state, and those that do not."""
    slot = int(str(cluster.nodes[0].execute("CLUSTER", "KEYSLOT", "{open-webui:realtime}")))
    owner = cluster.nodes[slot * len(cluster.nodes) // 16384]
    return owner, [node for node in cluster.nodes if node is not owner]


def number_for(cluster: RedisCluster, node: RedisServer, channel: Callable[[int], str]) -> int:
    """The first for which the channel lies at that node."""
    wanted, size = cluster.nodes.index(node), len(cluster.nodes)
    return next(n for n in itertools.count() if key_slot(channel(n).encode()) * size // 16384 == wanted)


async def test_two_instances_over_a_cluster_do_everything(cluster: RedisCluster) -> None:
    async with pair(cluster.url, websocket_redis_cluster=True) as (one, two):
        await everything_works(one, two)
        owner, others = owner_and_others(cluster)
        assert int(str(owner.execute("DBSIZE"))) > 0
        assert [node.execute("DBSIZE") for node in others] == [0, 0], "a key without the hash tag"


async def test_nodes_without_state_may_die_or_hang(cluster: RedisCluster) -> None:
    owner, (first, second) = owner_and_others(cluster)
    # Everybody's channel has to be at the node that stays.
    at = number_for(cluster, owner, lambda n: room_channel(f"b{n}", "/", "channel:general"))
    base = f"b{at}"
    settings = {"websocket_redis_cluster": True, "realtime_bus_channel": base}
    async with pair(cluster.url, **settings) as (one, two):
        servers = [one.server, two.server]
        async with client(one.url, "cat") as cat, client(two.url, "dan") as dan:
            await agreed(servers, [cat, dan], {"cat", "dan"})
            first.kill()
            await agreed(servers, [cat, dan], {"cat", "dan"})
            await asyncio.to_thread(second.pause)
            await agreed(servers, [cat, dan], {"cat", "dan"})

            # Rooms of a node without an heir cannot be heard: who needs one of them is refused in time.
            def user_room(number: int) -> str:
                return room_channel(base, "/", f"user:u{number}")

            eve, refused = (f"u{number_for(cluster, node, user_room)}" for node in (owner, first))
            async with client(two.url, eve):
                await agreed(servers, [cat, dan], {"cat", "dan", eve})
            with pytest.raises(socketio.exceptions.ConnectionError):
                async with client(two.url, refused):
                    pass
        second.resume()
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(wait_until, "the cluster to be whole", cluster.healthy, timeout=RECOVERY)
        # What a message needs, whichever node it enters by, is there again too.
        async with asyncio.timeout(RECOVERY):
            while not all([all((await server.ready()).values()) for server in servers]):
                await asyncio.sleep(0.05)
        await everything_works(one, two)


async def test_every_verb_of_the_state_runs_on_a_cluster(cluster: RedisCluster) -> None:
    settings = make_settings(cluster.url, websocket_redis_cluster=True)
    async with linked(connector_from_settings(settings)) as link:
        state = RedisState(link, root=settings.state_key_prefix)
        await state.start()
        lease = await state.acquire("lease-1", 60_000)
        assert (await state.leases()).keys() == {"lease-1"}
        user = User("ann", "Ann", "user", "")
        session = Session("sid-1", user, frozenset({"user:ann", "channel:general"}), "jti", 1000, "lease-1")
        registered = await state.register("lease-1", [session], cap=5)
        assert registered.outcomes == (Outcome.OK,)
        assert registered.epoch == lease.epoch
        assert await state.session("sid-1") == session
        assert await state.sessions() == {"sid-1": session}
        assert await state.sessions_of("ann") == [session]
        assert await state.users() == {"ann": ("sid-1",)}
        assert await state.instance_sids("lease-1") == {"sid-1"}
        assert await state.room_users(["channel:general"]) == {"channel:general": {"ann"}}
        assert await state.touch("sid-1", ["m"], ttl_ms=60_000, cap=5) is Outcome.OK
        assert await state.models_in_use() == ["m"]
        assert (await state.usage())["m"].keys() == {"sid-1"}
        assert (await state.sweep() or 0) > 0
        snapshot = await state.snapshot()
        assert (snapshot.users, snapshot.models) == ({"ann"}, {"m"})
        renewal = await state.renew("lease-1", 60_000)
        assert (renewal.alive, renewal.sessions, renewal.version) == (True, 1, snapshot.version)
        assert await state.lock_acquire("l", "me", 60_000) == 1
        assert await state.lock_renew("l", "me", 60_000)
        assert await state.lock_release("l", "me")
        await state.revoke_token("jti", 2**53)
        await state.revoke_user("bob")
        assert await state.revoked([Token("ann", "jti", 1), Token("bob", None, 1), Token("ann", "x", 1)]) == [
            True, True, False,
        ]  # fmt: skip
        assert await state.new_epoch(lease.epoch) != lease.epoch
        await state.unregister(["sid-1"])
        await state.release("lease-1")
        await state.reap()
        assert await state.users() == {}


def sentinel_settings(servers: RedisSentinelSet) -> dict[str, Any]:
    # The first of them is not there, as after the loss of a host.
    return {"websocket_sentinel_hosts": f"127.0.0.1:{free_port()},127.0.0.1:{servers.sentinel.port}"}


async def test_two_instances_behind_sentinel_do_everything(redis_binary: Path) -> None:
    with RedisSentinelSet(binary=redis_binary) as servers:
        async with pair(f"redis://{servers.service}/0", **sentinel_settings(servers)) as (one, two):
            await everything_works(one, two)


async def test_a_failover_that_loses_the_last_writes_ends_with_everybody_right(redis_binary: Path) -> None:
    with RedisSentinelSet(binary=redis_binary) as servers:
        async with pair(f"redis://{servers.service}/0", **sentinel_settings(servers)) as (one, two):
            both = [one.server, two.server]
            async with client(one.url, "ann") as ann, client(two.url, "bob") as bob:
                await agreed(both, [ann, bob], {"ann", "bob"})
                before = one.server.replica.position
                await asyncio.to_thread(servers.cut_replication)
                async with client(two.url, "leaver"):
                    await agreed(both, [ann, bob], {"ann", "bob", "leaver"})
                async with client(one.url, "cat") as cat, client(two.url, "dan") as dan:
                    await agreed(both, [ann, bob, cat, dan], {"ann", "bob", "cat", "dan"})
                    assert one.server.replica.version > before[1]

                    await asyncio.to_thread(servers.fail_over)

                    everyone = [ann, bob, cat, dan]
                    await agreed(both, everyone, {"ann", "bob", "cat", "dan"})
                    assert one.server.replica.epoch == two.server.replica.epoch != before[0]
                    assert not any(each.of("disconnect") for each in everyone)
                    async with client(two.url, "eve"):
                        await agreed(both, everyone, {"ann", "bob", "cat", "dan", "eve"})
                await agreed(both, [ann, bob], {"ann", "bob"})


async def test_a_switch_of_roles_with_both_servers_alive_shows_nobody_as_gone(redis_binary: Path) -> None:
    """The old primary goes on as a replica: whoever stayed connected to it would be told READONLY for ever."""
    with RedisSentinelSet(binary=redis_binary) as servers:
        # On a busy machine a switch takes its time; one that outlasts a lease does show people as gone.
        lease = 4 * RECOVERY
        async with pair(f"redis://{servers.service}/0", lease=lease, **sentinel_settings(servers)) as (
            one,
            two,
        ):
            both = [one.server, two.server]
            async with client(one.url, "ann") as ann, client(two.url, "bob") as bob:
                await agreed(both, [ann, bob], {"ann", "bob"})
                old = servers.primary
                servers.sentinel.execute("SENTINEL", "FAILOVER", servers.service)
                async with asyncio.timeout(RECOVERY):
                    while not _is_replica(old):
                        await asyncio.sleep(0.05)
                async with client(two.url, "cat") as cat:
                    await agreed(both, [ann, bob, cat], {"ann", "bob", "cat"})
                await agreed(both, [ann, bob], {"ann", "bob"})
                lists = [each for each in ann.of("user-list") if "bob" in each["user_ids"]]
                assert ann.of("user-list")[-len(lists) :] == lists, "bob was shown as gone for a while"


def _is_replica(server: RedisServer) -> bool:
    try:
        return "slave" in str(server.execute("ROLE"))
    except redis.ConnectionError:  # Sentinel ends every connection as it switches, this one among them
        return False


async def test_a_primary_made_a_replica_behind_sentinels_back_answers_no_more(redis_binary: Path) -> None:
    """Connections are left as they are, which Sentinel itself would not do: only READONLY tells."""
    with RedisSentinelSet(binary=redis_binary) as servers:
        async with pair(f"redis://{servers.service}/0", **sentinel_settings(servers)) as (one, two):
            both = [one.server, two.server]
            async with client(one.url, "ann") as ann, client(two.url, "bob") as bob:
                await agreed(both, [ann, bob], {"ann", "bob"})
                primary = servers.primary
                primary.execute("REPLICAOF", "127.0.0.1", servers.replica.port)
                await asyncio.sleep(0.5)
                primary.execute("REPLICAOF", "NO", "ONE")
                await agreed(both, [ann, bob], {"ann", "bob"})
