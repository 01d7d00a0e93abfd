"""Metrics: what Prometheus is told agrees with what happened, at a price that does not grow with the audience."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from realtime.app import create_app
from realtime.directory.memory import MemoryDirectory
from realtime.errors import InvalidPayload, SettingsError
from realtime.histogram import Histogram
from realtime.metrics.lag import LoopLag
from realtime.metrics.listener import MetricsListener
from realtime.metrics.page import metrics_page, registry_of
from realtime.server import RealtimeServer
from realtime.settings import load_settings
from realtime.state import MemoryState, Session
from realtime.wire import LocalBus, LocalHub
from sim.processes.process import free_port
from tests.events.lab import ask, breaks, people, person, polling, refusal
from tests.support.stack import Instance, client, make_settings, running, token_for, until

REASONS = ("client-disconnect", "server-disconnect", "transport-close", "transport-error", "ping-timeout")


class Seen:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, /, **labels: str) -> float:
        """The value of one sample, 0 if there is none."""
        return self._samples.get((f"realtime_{name}", frozenset(labels.items())), 0)

    def labels(self, name: str, label: str) -> set[str]:
        found = {dict(labels).get(label) for each, labels in self._samples if each == f"realtime_{name}"}
        return {value for value in found if value is not None}


def seen(server: RealtimeServer) -> Seen:
    return Seen(generate_latest(registry_of(server)).decode())


async def test_connections_connects_refusals_and_disconnects_are_told_apart() -> None:
    directory = people(ann=["red"])
    async with running(make_settings(realtime_max_sessions_per_user=2), directory) as instance:
        async with client(instance.url, "ann"), client(instance.url, "ann", transports=("polling",)):
            now = seen(instance.server)
            assert now("connections", transport="websocket") == now("connections", transport="polling") == 1
            assert now("sessions") == 2
            assert now("users_online") == 1
            assert (await refusal(instance.url, "ann"))["data"]["code"] == "too-many-sessions"
            async with client(instance.url):
                assert seen(instance.server)("strangers") == 1
            async with client(instance.url, token=token_for("nobody")):
                pass
        await until(lambda: not instance.server.wire.connections, what="all to be gone")
        now = seen(instance.server)
        assert now("connections", transport="websocket") == now("connections", transport="polling") == 0
        assert now("connects_total", outcome="accepted") == 4
        assert now("connects_total", outcome="too-many-sessions") == 1
        assert now("sign_ins_total", outcome="ok") == 2
        assert now("sign_ins_total", outcome="no-token") == 1
        assert now("sign_ins_total", outcome="unknown-user") == 1
        assert sum(now("disconnects_total", reason=reason) for reason in REASONS) == 4
        assert now.labels("disconnects_total", "reason") <= set(REASONS)


async def test_what_the_server_closes_and_refuses_is_counted_by_reason() -> None:
    async with running(make_settings()) as instance:
        async with client(instance.url, "ann") as ann:
            await instance.server.disconnect_user("ann")
            await until(lambda: not ann.sio.connected)
        async with httpx.AsyncClient() as http:
            where = f"{instance.url}/ws/socket.io/?EIO=4&transport=polling&sid=nobody"
            assert (await http.get(where)).status_code == 400
        now = seen(instance.server)
        assert now("closes_total", reason="kicked") == 1
        assert now("disconnects_total", reason="server-disconnect") == 1
        assert now("requests_refused_total", reason="unknown-session") == 1


async def test_events_are_counted_by_name_and_outcome() -> None:
    def prepare(server: RealtimeServer) -> None:
        async def fails(_sid: str, *_args: Any) -> None:
            raise ZeroDivisionError

        async def refuses(_sid: str, *_args: Any) -> None:
            raise InvalidPayload

        async def odd(_sid: str, *_args: Any) -> object:
            return object()

        for name, handler in (("fails", fails), ("refuses", refuses), ("odd", odd)):
            server.wire.on(name, handler)

    async with running(make_settings(), prepare=prepare) as instance, client(instance.url, "ann") as ann:
        for name in ("fails", "refuses", "odd", "user-list", "channel-events"):
            await ask(ann, name, {"channel_id": "x", "data": {"type": "typing"}})
        now = seen(instance.server)
        assert now("events_total", event="fails", outcome="internal") == 1
        assert now("events_total", event="refuses", outcome="invalid-payload") == 1
        assert now("events_total", event="odd", outcome="internal") == 1
        assert now("events_total", event="user-list", outcome="ok") == 1
        assert now("events_total", event="channel-events", outcome="forbidden") == 1
        assert now("received_packets_total") == 6  # with the CONNECT
        assert now("received_bytes_total") > 6 * 10


async def test_names_that_clients_make_up_are_one_series() -> None:
    async with running(make_settings()) as instance, client(instance.url, "ann") as ann:
        for number in range(50):
            await ann.sio.emit(f"made-up-{number}")
        await ask(ann, "user-list")
        now = seen(instance.server)
        assert now.labels("events_total", "event") == {"other", "user-list"}
        assert now("events_total", event="other", outcome="unhandled") == 50
        assert "made-up" not in now.text


async def test_events_beyond_the_rate_are_counted_as_such() -> None:
    settings = make_settings(realtime_max_events_per_second=1, realtime_max_event_burst=3)
    async with running(settings) as instance, client(instance.url, "ann") as ann:
        acks = [await ask(ann, "user-list") for _ in range(5)]
        refused = sum(ack is not None for ack in acks)
        assert refused
        assert seen(instance.server)("events_total", event="user-list", outcome="limit-exceeded") == refused


async def test_deliveries_and_their_bytes_are_emits_times_who_hears_them() -> None:
    async with running(make_settings()) as instance:
        async with (
            client(instance.url, "ann"),
            client(instance.url, "ann", transports=("polling",)),
            client(instance.url, "bob"),
        ):
            before = seen(instance.server)
            await instance.server.emit_to_users("note", "x" * 1000, ["ann"])
            await instance.server.emit_to_users("note", "x" * 1000, ["nobody"])
            now = seen(instance.server)
            assert now("emits_total") - before("emits_total") == 2
            assert now("deliveries_total") - before("deliveries_total") == 2
            assert 2000 <= now("delivered_bytes_total") - before("delivered_bytes_total") <= 2100


@pytest.mark.parametrize("recipients", [1, 200])
async def test_an_emit_counts_as_often_for_many_as_for_one(recipients: int) -> None:
    class Watched:
        def __init__(self, counters: Any) -> None:
            object.__setattr__(self, "_counters", counters)
            object.__setattr__(self, "looks", 0)

        def __getattr__(self, name: str) -> Any:
            object.__setattr__(self, "looks", self.looks + 1)
            return getattr(self._counters, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self._counters, name, value)

    class Line:
        """As much of a websocket as delivery sees."""

        def write(self, framed: bytes) -> bool:
            return bool(framed)

    server = RealtimeServer(make_settings(), MemoryDirectory())
    members = [type("Member", (), {"sid": str(number), "line": Line()})() for number in range(recipients)]
    manager: Any = server.manager
    manager.book.recipients = lambda _namespace, _room: members
    manager.counters = watched = Watched(manager.counters)
    assert manager.deliver("note", "x", "/", "room") == recipients
    assert watched.looks == 3
    assert watched._counters.deliveries == recipients


async def test_bytes_that_wait_for_a_slow_client_are_seen_and_it_is_counted_when_it_is_closed() -> None:
    settings = make_settings(realtime_max_outgoing_bytes=200_000, realtime_slow_consumer_seconds=600)
    async with running(settings) as instance, polling(instance.url) as slow:
        server = instance.server
        await slow.post("40" + json.dumps({"token": token_for("ann")}))
        await until(lambda: len(server.sessions) == 1, what="ann to be signed in")
        await server.emit_to_users("note", "x" * 100_000, ["ann"])
        assert 100_000 <= seen(server)("queue_bytes") <= 102_000
        assert seen(server)("slow_consumers_total") == 0
        for _ in range(3):
            await server.emit_to_users("note", "x" * 100_000, ["ann"])
        now = seen(server)
        assert now("slow_consumers_total") == 1
        assert now("closes_total", reason="slow-consumer") == 1


async def test_each_instance_of_a_process_has_numbers_of_its_own() -> None:
    before = {family.name for family in REGISTRY.collect()}

    def came(server: RealtimeServer) -> float:
        return seen(server)("bus_messages_total", direction="received", channel="common")

    hub, state = LocalHub(), MemoryState()
    settings = [make_settings(realtime_instance_name=name) for name in ("one", "two")]
    async with (
        running(settings[0], state=state, bus=LocalBus(hub)) as one,
        running(settings[1], state=state, bus=LocalBus(hub)) as two,
        client(one.url, "ann"),
    ):
        await until(lambda: seen(two.server)("users_online") == 1, what="the other to hear of ann")
        assert (seen(one.server)("sessions"), seen(two.server)("sessions")) == (1, 0)
        assert seen(one.server)("instance_info", name="one") == 1
        assert seen(two.server)("instance_info", name="two") == 1
        await two.server.emit_to_users("note", "x", ["ann"])
        await until(lambda: came(one.server) == 1, what="the message between the instances")
        assert (came(two.server), seen(two.server)("deliveries_total")) == (0, 0)
        assert seen(two.server)("bus_messages_total", direction="sent", channel="common") == 1
    assert {family.name for family in REGISTRY.collect()} == before


async def test_redis_is_timed_and_its_failures_are_counted(redis_url: str, redis_prefix: str) -> None:
    settings = make_settings(redis_url, redis_key_prefix=redis_prefix)
    async with running(settings) as instance, client(instance.url, "ann"):
        server = instance.server
        now = seen(server)
        assert now("redis_round_trip_seconds_count") >= 4  # acquire, snapshot, register, the lock
        assert 0 < now("redis_round_trip_seconds_sum") < 2 * now("redis_round_trip_seconds_count")
        assert now("redis_round_trip_seconds_bucket", le="+Inf") == now("redis_round_trip_seconds_count")
        assert now("redis_failures_total") == 0
        assert now("redis_publish_seconds_count") == 0
        await server.emit_to_users("note", "x", ["ann"])
        assert seen(server)("redis_publish_seconds_count") == 1
        assert now("lease_held") == 1
        with pytest.raises(Exception, match="cannot be reached"):
            await server.link.run(lambda redis: redis.execute_command("NO SUCH COMMAND"))  # type: ignore[union-attr]
        assert seen(server)("redis_failures_total") == 1
        assert seen(server)("redis_round_trip_seconds_count") >= now("redis_round_trip_seconds_count")


async def test_presence_lag_is_of_joins_and_leaves_on_all_instances(
    redis_url: str, redis_prefix: str
) -> None:
    settings = [
        make_settings(redis_url, redis_key_prefix=redis_prefix, realtime_instance_name=name)
        for name in ("one", "two")
    ]
    async with running(settings[0]) as one, running(settings[1]) as two:

        async def come_and_go(here: Instance, there: Instance) -> None:
            async with client(here.url, "ann"), client(here.url, "ann"):  # two tabs, one join and one leave
                await until(lambda: bool(seen(there.server)("users_online")), what="the other to hear of ann")
            await until(
                lambda: not seen(there.server)("users_online"), what="the other to hear that ann left"
            )

        await come_and_go(one, two)
        await come_and_go(two, one)
        for each in (one, two):
            now = seen(each.server)
            assert now("presence_lag_seconds_count") == 4
            assert now("presence_lag_seconds_bucket", le="1.0") == 4, (
                "by the same clock, not by this one's own"
            )


async def test_renewals_and_sessions_reaped_are_counted() -> None:
    state = MemoryState()
    settings = make_settings(realtime_lease_seconds=0.4, realtime_state_timeout_seconds=0.2)
    async with running(settings, state=state) as instance:
        server = instance.server
        await state.acquire("dead~1.abc", 1)
        await state.register("dead~1.abc", [Session("ghost-tab", person("ghost"))])
        await until(lambda: seen(server)("reaped_sessions_total") == 1, what="the dead to be reaped")
        assert seen(server)("lease_renewals_total", outcome="renewed") >= 1
        mend = breaks(state, "renew", InvalidPayload())
        await until(lambda: seen(server)("lease_renewals_total", outcome="failed") >= 1)
        mend()


async def test_a_loop_that_was_held_up_is_seen_as_late() -> None:
    lag = LoopLag()
    task = asyncio.create_task(lag.run())
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.6)"], check=True)  # noqa: ASYNC221
        await until(lambda: sum(lag.seconds.counts), what="the look at the clock")
        assert lag.seconds.sum >= 0.3
    finally:
        task.cancel()


def test_a_histogram_counts_a_value_at_a_bound_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ((2, 2, 1), 7.5)


# Where it can be read


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[str]:
    server = RealtimeServer(make_settings(), MemoryDirectory())
    await server.start()
    listener = MetricsListener(server, host=host, port=0)
    try:
        yield await listener.start()
    finally:
        await listener.close()
        await server.stop()


async def test_the_page_has_a_port_of_its_own_and_nothing_else_is_there() -> None:
    async with listening() as url, httpx.AsyncClient() as http:
        answer = await http.get(url)
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert Seen(answer.text)("lease_held") == 1
        assert (await http.get(url.removesuffix("/metrics"))).status_code == 404
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        answer = await http.get(url, headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


async def test_after_the_end_nothing_listens_there() -> None:
    async with listening() as url:
        assert urllib.parse.urlsplit(url).hostname == "127.0.0.1"
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)


async def test_the_public_port_does_not_tell_strangers() -> None:
    port = free_port()
    app = create_app(make_settings(realtime_metrics_port=port), directory=MemoryDirectory(auto_create=True))
    server = app.state.realtime
    await server.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as public:
            for path in ("/metrics", "/ws/metrics", "/ws/socket.io/metrics"):
                assert "realtime_" not in (await public.get(path)).text
        async with httpx.AsyncClient() as http:
            assert "realtime_lease_held 1" in (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        await until(lambda: seen(server)("loop_lag_seconds_count"), what="a look at the loop's lag")
    finally:
        await server.stop()


async def test_without_the_setting_nothing_listens_and_the_library_is_not_even_imported() -> None:
    """As in the simulator, which must not meet clocks, threads or files that it does not own."""
    script = (
        "import sys, sim.targets.realtime, realtime.app, realtime.__main__\n"
        "assert 'realtime.server' in sys.modules and 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: ASYNC221
    async with running(make_settings()) as instance:
        assert instance.server._metrics is None
        assert not [task for task in instance.server.tasks._tasks if task.get_name() == "loop-lag"]


async def test_a_port_that_is_taken_stops_the_start_with_its_setting_s_name() -> None:
    async with listening() as url:
        port = urllib.parse.urlsplit(url).port
        server = RealtimeServer(make_settings(realtime_metrics_port=port), MemoryDirectory())
        with pytest.raises(SettingsError, match="REALTIME_METRICS_PORT: cannot listen on port"):
            await server.start()


def test_a_demo_shows_its_metrics_to_this_machine_only() -> None:
    with pytest.raises(SettingsError, match="REALTIME_METRICS_HOST"):
        load_settings(demo=True, realtime_metrics_host="0.0.0.0")
    assert load_settings(demo=True, realtime_metrics_host="::1").realtime_metrics_host == "::1"
    assert make_settings(realtime_metrics_host="0.0.0.0").realtime_metrics_host == "0.0.0.0"


async def test_an_application_can_put_the_page_where_it_likes() -> None:
    server = RealtimeServer(make_settings(), MemoryDirectory())
    app = FastAPI()
    app.add_route("/inside/metrics", metrics_page(server))
    await server.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as http:
            assert "realtime_lease_held 1" in (await http.get("/inside/metrics")).text
    finally:
        await server.stop()
