"""Instances behind a balancer that routes by session id: nginx, HAProxy, and a small one where these are absent.

Every test runs behind each of them with every kind of client, polling among them, and nobody has a cookie.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import aiohttp
import psutil
import pytest
from click.testing import CliRunner

from realtime.__main__ import main
from realtime.tags import new_sid, tag_in, tag_of
from sim.processes.balancers import Balancer, HAProxy, Nginx, SmallBalancer, find_binary
from sim.processes.instances import Fleet, Instance
from sim.processes.redis import RedisServer
from tests.e2e.clients import KINDS, Client, signed_in

pytestmark = [pytest.mark.e2e, pytest.mark.node]

BACK_SECONDS = 5.0
"""Within which the clients of an instance that died are back: they wait 0.2 s at most between two tries."""

UNKNOWN = {"code": 1, "message": "Session ID unknown"}


def printed(kind: str, listen: str, instances: Mapping[str, str]) -> str:
    """The command's output, without the second that a process takes to import it all."""
    words = [word for name, address in instances.items() for word in ("--instance", f"{name}={address}")]
    done = CliRunner().invoke(main, ["balancer", kind, "--listen", listen, *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def fleet(redis_binary: Path) -> Iterator[Fleet]:
    """Three instances; which of them a balancer knows is the test's to say."""
    settings = {"REALTIME_LEASE_SECONDS": "2", "REALTIME_STATE_TIMEOUT_SECONDS": "1"}
    with RedisServer(binary=redis_binary) as redis:
        with Fleet(3, redis_url=redis.url, demo=True, settings=settings) as made:
            yield made
            for instance in made.instances:
                assert "Traceback" not in instance.log, instance.log


@pytest.fixture(params=[SmallBalancer, Nginx, HAProxy], ids=["small", "nginx", "haproxy"])
def kind(request: pytest.FixtureRequest) -> type[Balancer]:
    chosen: type[Balancer] = request.param
    name = chosen.kind
    if chosen is not SmallBalancer and find_binary(name) is None:
        pytest.skip(f"not run: instances behind {name} ({name} is not installed)")
    return chosen


def where(*instances: Instance) -> dict[str, str]:
    return {instance.name: f"127.0.0.1:{instance.port}" for instance in instances}


@contextlib.asynccontextmanager
async def crowd(url: str) -> AsyncIterator[dict[str, Client]]:
    """One client of each kind, by user id, on its last transport."""
    suffix = secrets.token_hex(3)
    clients = {f"{kind}-{suffix}": kind.client() for kind in KINDS}
    try:
        await asyncio.gather(
            *(client.connect(url, signed_in(user), reconnection=True) for user, client in clients.items())
        )
        await asyncio.gather(
            *(client.wait_for_transport(client.transports[-1]) for client in clients.values())
        )
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))


async def tags_of(clients: Mapping[str, Client]) -> dict[str, str | None]:
    """Where each client is."""
    found = await asyncio.gather(*(client.engine_sid() for client in clients.values()))
    return {user: tag_in(sid) for user, sid in zip(clients, found, strict=True)}


async def answered(url: str, sid: str, method: str, body: bytes = b"") -> tuple[int, object]:
    """Status and, if it is a refusal, what it says."""
    target = f"{url}/ws/socket.io/?EIO=4&transport=polling&sid={sid}"
    async with aiohttp.ClientSession() as http, http.request(method, target, data=body) as answer:
        return answer.status, await answer.json(content_type=None) if answer.status == 400 else None


async def is_served(url: str, sid: str) -> bool:
    return await answered(url, sid, "POST", b"40") == (200, None)


async def opened(url: str, **headers: str) -> str:
    """The session id that a handshake gives; refused ones raise."""
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as http:
        async with http.get(f"{url}/ws/socket.io/?EIO=4&transport=polling") as answer:
            text = await answer.text()
    return text.partition('"sid":"')[2].partition('"')[0]


async def reload(balancer: Balancer, *instances: Instance) -> None:
    """Returns when the last of the instances gets new clients."""
    await asyncio.to_thread(balancer.route_to, where(*instances))
    async with asyncio.timeout(10):
        while tag_in(await opened(balancer.url)) != tag_of(instances[-1].name):
            await asyncio.sleep(0.02)


async def all_talk(clients: Mapping[str, Client]) -> None:
    for user, client in clients.items():
        assert await client.call("user-join", {"auth": signed_in(user)}) == {"id": user, "name": user}


def quiet(clients: Mapping[str, Client]) -> bool:
    return not any(client.of("~disconnect") for client in clients.values())


async def test_every_kind_of_client_stays_on_its_instance_and_reaches_those_of_the_other(
    fleet: Fleet, kind: type[Balancer], node_modules: Path
) -> None:
    one, two, _ = fleet.instances
    said = {instance: len(instance.log) for instance in (one, two)}
    async with kind(where(one, two), configure=printed) as balancer, crowd(balancer.url) as clients:
        tags = await tags_of(clients)
        assert set(tags.values()) == {tag_of(one.name), tag_of(two.name)}
        speakers = [next(user for user in clients if tags[user] == tag) for tag in set(tags.values())]
        for speaker in speakers:
            typing = {"channel_id": "general", "data": {"type": "typing"}}
            assert await clients[speaker].call("channel-events", typing) is None
            hears = [
                client.wait_for("channel-events", lambda data, it=speaker: data["user"]["id"] == it)
                for user, client in clients.items()
                if user != speaker
            ]
            await asyncio.gather(*hears)
        assert await tags_of(clients) == tags
        assert quiet(clients)
    for instance, before in said.items():
        assert "python -m realtime balancer" not in instance.log[before:], "a request went astray"


async def test_a_third_instance_gets_new_clients_and_no_old_one_loses_its_connection(
    fleet: Fleet, kind: type[Balancer], node_modules: Path
) -> None:
    one, two, three = fleet.instances
    async with kind(where(one, two), configure=printed) as balancer, crowd(balancer.url) as clients:
        tags = await tags_of(clients)
        await reload(balancer, one, two, three)
        await all_talk(clients)
        assert await tags_of(clients) == tags
        assert quiet(clients)


async def test_clients_of_an_instance_that_dies_are_back_on_others_soon_and_the_rest_notice_nothing(
    fleet: Fleet, kind: type[Balancer], node_modules: Path
) -> None:
    one, two, three = fleet.instances
    dead = tag_of(two.name)
    async with kind(where(two), configure=printed) as balancer, crowd(balancer.url) as orphans:
        await reload(balancer, two, one, three)
        async with crowd(balancer.url) as more:
            tags = await tags_of(more)
            rest = {user: client for user, client in more.items() if tags[user] != dead}
            orphans |= {user: client for user, client in more.items() if tags[user] == dead}
            assert rest
            before = {user: len(client.seen) for user, client in orphans.items()}
            await asyncio.to_thread(two.kill)
            try:
                async with asyncio.timeout(BACK_SECONDS):
                    await asyncio.gather(
                        *(client.wait_for("~connect", after=before[user]) for user, client in orphans.items())
                    )
                assert dead not in (await tags_of(orphans)).values()
                await all_talk(orphans | rest)
                assert quiet(rest)
                async with asyncio.timeout(BACK_SECONDS):
                    for method in ("GET", "POST"):
                        assert (
                            await asyncio.gather(
                                *(answered(balancer.url, new_sid(dead), method) for _ in range(10))
                            )
                            == [(400, UNKNOWN)] * 10
                        )
                    assert dead not in [tag_in(await opened(balancer.url)) for _ in range(6)]
            finally:
                await asyncio.to_thread(two.start)
        async with asyncio.timeout(BACK_SECONDS):
            # A balancer that forbears to ask it for a while would send its new clients elsewhere.
            while not all([await is_served(balancer.url, await opened(two.url)) for _ in range(10)]):
                await asyncio.sleep(0.05)


async def test_a_session_that_nobody_has_gets_the_protocols_error(fleet: Fleet, kind: type[Balancer]) -> None:
    one, *_ = fleet.instances
    async with kind(where(one), configure=printed) as balancer:
        for sid in (new_sid("nobodys1"), new_sid(""), "nonsense"):
            for method in ("GET", "POST"):
                assert await answered(balancer.url, sid, method) == (400, UNKNOWN)


def test_no_worker_of_it_is_left_when_it_is_closed(fleet: Fleet, kind: type[Balancer]) -> None:
    with kind(where(fleet.instances[0]), configure=printed) as balancer:
        processes = [psutil.Process(balancer.pid), *psutil.Process(balancer.pid).children()]
    assert len(processes) == {"tags": 1, "nginx": 3, "haproxy": 2}[kind.kind]
    psutil.wait_procs(processes, timeout=BACK_SECONDS)
    assert not any(process.is_running() for process in processes)


async def test_a_page_of_the_balancers_own_origin_is_let_in_and_no_other(
    fleet: Fleet, kind: type[Balancer]
) -> None:
    one, two, _ = fleet.instances
    async with kind(where(one, two), configure=printed) as balancer:
        assert await opened(balancer.url, Origin=balancer.url)
        for liar in ({}, {"X-Forwarded-Host": "evil.example"}):
            with pytest.raises(aiohttp.ClientResponseError, match="400"):
                await opened(balancer.url, Origin="http://evil.example", **liar)


class StandIn:
    """Something that is asked like an instance, keeps what it got, and answers or, `broken`, closes the connection."""

    def __init__(self, *, broken: bool = False) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self._broken = broken
        self.server: asyncio.Server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip()
            request, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            asked = "/ws/" in request
            if asked:
                self.got.append((request.split()[0], headers, body))
            if not (asked and self._broken):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                await writer.drain()


@contextlib.asynccontextmanager
async def stand_in(*, broken: bool = False) -> AsyncIterator[StandIn]:
    made = StandIn(broken=broken)
    made.server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with made.server:
        yield made


async def test_a_post_whose_instance_dies_over_it_is_given_to_no_other(kind: type[Balancer]) -> None:
    async with stand_in(broken=True) as dying, stand_in() as living:
        instances = {"dying": dying.address, "living": living.address}
        async with kind(instances, configure=printed) as balancer:
            with contextlib.suppress(aiohttp.ServerDisconnectedError):
                status, _ = await answered(balancer.url, new_sid(tag_of("dying")), "POST", b"42[1]")
                assert status == 502
        assert [(method, body) for method, _, body in dying.got] == [("POST", b"42[1]")]
        assert living.got == []


async def test_an_instance_gets_a_request_whole_and_learns_whose_it_was(kind: type[Balancer]) -> None:
    async with stand_in() as instance, stand_in() as other:
        instances = {"one": instance.address, "other": other.address}
        async with kind(instances, configure=printed) as balancer:
            payload = b"4" + b"x" * 900_000
            for _ in range(3):
                assert await answered(balancer.url, new_sid(tag_of("one")), "POST", payload) == (200, None)
        assert other.got == []
        for _, headers, body in instance.got:
            assert body == payload
            host = balancer.url.removeprefix("http://")
            assert headers["host"] == headers["x-forwarded-host"] == host
            assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
