"""Every kind of address leads where it says: schemes, users, passwords, databases, TLS, sockets, Sentinel, Cluster."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from realtime.errors import SettingsError, StateUnavailable
from realtime.link import Connector, SingleConnector, connector_from_settings
from realtime.link.cluster import ClusterConnector
from realtime.link.connect import SentinelConnector, group_name
from realtime.link.redis_link import COMMAND_CONNECTIONS
from sim.processes.cluster import RedisCluster
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from sim.processes.sentinel import RedisSentinelSet
from tests.link.lab import linked, proxied, say_nothing, serving
from tests.support.stack import make_settings


async def works(connector: Connector, timeout: float = 2.0) -> None:
    """Commands, publishing and listening all reach a server."""
    async with linked(connector, timeout=timeout, listens="c") as link:
        heard: list[bytes] = []
        link.subscriber._receivers[b"c"].append(heard.append)
        assert await link.run(lambda r: r.set("key", "value"))
        assert await link.run(lambda r: r.get("key")) == b"value"
        await link.publisher.publish("c", b"said")
        async with asyncio.timeout(5):
            while heard != [b"said"]:
                await asyncio.sleep(0.005)


def connector(url: str, **settings: object) -> Connector:
    return connector_from_settings(make_settings(url, **settings))


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_both_names_of_the_protocol(redis_server: RedisServer, scheme: str) -> None:
    await works(connector(f"{scheme}://127.0.0.1:{redis_server.port}"))


async def test_a_user_with_a_password_full_of_url_characters(redis_server: RedisServer) -> None:
    password = "p@ss:w/or d%?#é"
    redis_server.execute("ACL", "SETUSER", "us:er", "on", f">{password}", "~*", "&*", "+@all")
    redis_server.execute("ACL", "SETUSER", "default", "off")
    await works(
        connector(
            f"redis://{quote('us:er', safe='')}:{quote(password, safe='')}@127.0.0.1:{redis_server.port}/0"
        )
    )


async def test_a_password_without_a_user(redis_server: RedisServer) -> None:
    redis_server.execute("CONFIG", "SET", "requirepass", "secret")
    await works(connector(f"redis://:secret@127.0.0.1:{redis_server.port}"))
    with pytest.raises(StateUnavailable):
        await works(SingleConnector(redis_server.url, timeout=0.1), timeout=0.1)


@pytest.mark.parametrize("where", ["/5", "/?db=5", "?db=5"])
async def test_a_database_number(redis_server: RedisServer, where: str) -> None:
    await works(connector(f"redis://127.0.0.1:{redis_server.port}{where}"))
    assert "db5:keys=1" in str(redis_server.execute("INFO", "keyspace"))


async def test_a_unix_socket(redis_binary: Path, tmp_path: Path) -> None:
    path = tmp_path / "redis socket"
    with RedisServer(binary=redis_binary, options={"unixsocket": f'"{path}"'}) as server:
        await works(connector(f"unix://{quote(str(path))}?db=2"))
        assert "db2:keys=1" in str(server.execute("INFO", "keyspace"))


async def test_ipv6(redis_binary: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("not run: IPv6 addresses (this machine has none)")
    with RedisServer(binary=redis_binary, options={"bind": "127.0.0.1 ::1"}) as server:
        await works(connector(f"redis://[::1]:{server.port}/0"))


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_tls(redis_server: RedisServer, certificate: tuple[Path, Path], scheme: str) -> None:
    """TLS ends in a proxy, since not every server binary is built with it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    async with proxied(redis_server.port, tls=tls) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}/0"
        await works(connector(f"{url}?ssl_ca_certs={quote(str(certificate[0]))}"))
        await works(connector(f"{url}?ssl_cert_reqs=none"))
        with pytest.raises(StateUnavailable, match=r"(?i)certificate"):
            await works(SingleConnector(f"rediss://127.0.0.1:{proxy.port}/0", timeout=0.5), timeout=0.5)


@pytest.mark.parametrize("query", ["foo=bar", "db=x", "timeout=5", "ssl_cert_reqs=maybe", "socket_timeout=x"])
def test_an_option_that_does_not_exist_is_refused_by_name(query: str) -> None:
    scheme = "rediss" if query.startswith("ssl") else "redis"
    with pytest.raises(SettingsError, match=r"WEBSOCKET_REDIS_URL.*") as refused:
        connector(f"{scheme}://user:hidden@h:1/0?{query}")
    assert "hidden" not in str(refused.value)


async def test_an_option_of_the_url_cannot_undo_what_the_layer_relies_on(redis_server: RedisServer) -> None:
    query = "decode_responses=true&retry_on_timeout=true&socket_timeout=60&protocol=3&max_connections=1"
    await works(connector(f"{redis_server.url}?{query}"))


# Sentinel


@pytest.mark.parametrize(
    ("url", "group"),
    [
        ("redis://MyMaster/0", "MyMaster"),
        ("redis://u:p%40@My-Master:6379/1", "My-Master"),
        ("redis://:a:b@group", "group"),
        ("rediss://two%20words?x=y", "two words"),
    ],
)
def test_the_name_of_the_group_keeps_its_capitals(url: str, group: str) -> None:
    assert group_name(url) == group


@pytest.mark.e2e
async def test_sentinel_leads_to_the_primary_even_when_the_first_sentinels_are_no_help(
    redis_binary: Path,
) -> None:
    with RedisSentinelSet(binary=redis_binary) as servers:
        primary = servers.primary
        password = "pass@word"
        primary.execute("ACL", "SETUSER", "app", "on", f">{password}", "~*", "&*", "+@all")
        async with serving(say_nothing) as hanging:
            hosts = [("127.0.0.1", free_port()), ("127.0.0.1", hanging), ("127.0.0.1", servers.sentinel.port)]
            url = f"redis://app:{quote(password)}@{servers.service}/3"
            began = time.monotonic()
            await works(SentinelConnector(url, hosts, timeout=1.5), timeout=1.5)
            assert time.monotonic() - began < 6
        assert "db3:keys=1" in str(primary.execute("INFO", "keyspace"))


async def test_no_sentinel_at_all_is_a_typed_error_within_the_bound() -> None:
    async with serving(say_nothing) as hanging:
        hosts = [("127.0.0.1", free_port()), ("127.0.0.1", hanging)]
        async with linked(SentinelConnector("redis://g", hosts, timeout=0.3), timeout=0.3) as link:
            began = time.monotonic()
            with pytest.raises(StateUnavailable):
                await link.run(lambda r: r.ping())
            assert time.monotonic() - began < 1.5


@pytest.mark.e2e
async def test_sentinel_gives_as_few_connections_as_any_other(redis_binary: Path) -> None:
    """redis-py's pool for Sentinel has no bound of its own that waits."""
    with RedisSentinelSet(binary=redis_binary) as servers:
        hosts = [("127.0.0.1", servers.sentinel.port)]
        async with linked(SentinelConnector(f"redis://{servers.service}", hosts)) as link:
            await asyncio.gather(*(link.run(lambda r: r.ping()) for _ in range(300)))
            clients = str(servers.primary.execute("CLIENT", "LIST", "TYPE", "normal")).strip().splitlines()
            ours = [line for line in clients if "lib-name=redis-py" in line or "cmd=ping" in line]
            assert len(ours) <= COMMAND_CONNECTIONS + 2  # the Sentinel's own links ping too


# Cluster


@pytest.mark.e2e
async def test_a_cluster_is_reached_through_any_node_that_is_left(redis_binary: Path) -> None:
    options = {"cluster-require-full-coverage": "no"}
    with RedisCluster(binary=redis_binary, options=options) as cluster:
        it = ClusterConnector(cluster.url, "key")
        owner = cluster.nodes.index(await owner_of(it, cluster))
        assert owner != 0, "the key of the test lies on the node of the URL: choose another"
        cluster.nodes[0].kill()
        cluster.nodes[3 - owner].pause()
        await works(it, timeout=3)
        cluster.nodes[3 - owner].resume()


@pytest.mark.e2e
async def test_a_slot_that_moved_is_followed(redis_binary: Path) -> None:
    with RedisCluster(binary=redis_binary) as cluster:
        it = ClusterConnector(cluster.url, "key")
        before = await owner_of(it, cluster)
        after = next(node for node in cluster.nodes if node is not before)
        async with linked(it, listens="c") as link:
            await link.run(lambda r: r.incr("key"))
            await asyncio.to_thread(before.execute, "DEL", "key")
            slot = str(before.execute("CLUSTER", "KEYSLOT", "key"))
            ids = {node: str(node.execute("CLUSTER", "MYID")) for node in (before, after)}
            # As redis-cli moves a slot: it is the import that gives the new owner the later epoch.
            after.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[before])
            before.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[after])
            for node in (after, before):
                node.execute("CLUSTER", "SETSLOT", slot, "NODE", ids[after])
            with pytest.raises(StateUnavailable):
                await link.run(lambda r: r.incr("key"))
            assert await link.run(lambda r: r.incr("key")) == 1
            assert after.execute("GET", "key") == "1"
            assert link.subscriber.reconnects == 0


@pytest.mark.e2e
async def test_a_burst_of_first_commands_all_reach_the_owner(redis_binary: Path) -> None:
    with RedisCluster(binary=redis_binary) as cluster:
        async with linked(ClusterConnector(cluster.url, "{tag}")) as link:
            await asyncio.gather(*(link.run(lambda r: r.incr("{tag}n")) for _ in range(300)))
            assert await link.run(lambda r: r.get("{tag}n")) == b"300"


async def owner_of(it: ClusterConnector, cluster: RedisCluster) -> RedisServer:
    _, port = await it._owner()
    return next(node for node in cluster.nodes if node.port == port)
