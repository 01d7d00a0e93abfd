"""The raw client: what it should not do reaches the server as such, on every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from sim.client_node import ClientNode, RawNode
from sim.schedule import Message, PlainSchedule
from sim.simulated import SimulatedLab
from sim.targets import load
from sim.tcp import WINDOW

pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")

Behaves = Callable[[SimulatedLab, RawNode, ClientNode], Awaitable[None]]

TARGETS = ("naive", "realtime")
TRANSPORTS = ("websocket", "polling")
PING_SECONDS = 25.0
MISSED_SECONDS = PING_SECONDS + 20.0
PIECE = 64 * 1024

every_target = pytest.mark.parametrize("target", TARGETS)
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


class Traffic:
    """Bytes by link, and which kinds of messages a link carried."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def sent(self, message: Message, arrives_at: float) -> None:
        self.bytes[f"{message.source}→{message.target}"] += len(message.data)
        self.kinds[f"{message.source}→{message.target} {message.kind}"] += 1

    def arrived(self, message: Message, now: float) -> None:
        return None


def with_raw(target: str, transport: str, behaves: Behaves) -> tuple[SimulatedLab, Traffic]:
    """One instance, a watcher, and a raw client of the user ann who is connected when it begins to misbehave."""
    traffic = Traffic()

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        watcher = await lab.connect("watcher", "wat", "api-1")
        raw = lab.raw("raw")
        assert await lab.connect_raw(raw, "ann", "api-1", transport=transport)
        await lab.checks.everyone_sees([watcher], {"ann", "wat"})
        await behaves(lab, raw, watcher)

    lab = SimulatedLab(load(target), PlainSchedule())
    lab.network.observers.append(traffic)
    lab.run(scenario, seed=1)
    return lab, traffic


async def goes(lab: SimulatedLab, watcher: ClientNode, *, within: float) -> None:
    await lab.checks.everyone_sees([watcher], {"wat"}, within=within)


@every_target
@every_transport
def test_a_client_with_manners_stays_hears_and_answers(target: str, transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        raw.client.answer = lambda data: {"heard": data["data"]}
        await lab.sleep(2 * MISSED_SECONDS)
        info = {"user_id": "ann", "session_id": raw.client.sid}
        called = await lab.knock("api-1", "call", {"request_info": info, "event": {"n": 1}})
        assert called == (200, {"result": {"heard": {"n": 1}}})
        said = {"channel_id": "general", "data": {"type": "typing", "mark": "hello"}}
        await lab.on(raw.node, raw.client.emit("channel-events", said))
        await lab.sleep(1)
        assert lab.checks.heard(watcher, "channel-events", lambda data: data["data"] == said["data"]) == 1
        assert lab.checks.count("raw", "channel-events") == 1
        assert raw.client.pings >= 3
        await lab.on(raw.node, raw.client.close())
        await goes(lab, watcher, within=2)

    with_raw(target, transport, behaves)


@every_target
@every_transport
def test_one_that_never_answers_pings_is_closed(target: str, transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        raw.client.answers_pings = False
        await goes(lab, watcher, within=2 * MISSED_SECONDS)
        await lab.sleep(MISSED_SECONDS)  # a stock server leaves the poll that waits for a packet waiting
        assert raw.client.pings
        assert raw.client.sid is None

    with_raw(target, transport, behaves)


@every_target
def test_one_that_stops_reading_holds_the_server_back(target: str) -> None:
    async def flood(lab: SimulatedLab) -> None:
        for number in range(16):
            await lab.knock(
                "api-1",
                "tell",
                {"event": "flood", "data": [number, "x" * PIECE], "user_ids": ["ann"]},
            )
        await lab.sleep(1)

    async def deaf(lab: SimulatedLab, raw: RawNode, _watcher: ClientNode) -> None:
        await lab.on(raw.node, raw.client.stop_reading())
        await flood(lab)
        assert not lab.checks.count("raw", "flood")

    async def hears_again(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        await deaf(lab, raw, watcher)
        await lab.on(raw.node, raw.client.go_on_reading())
        await lab.sleep(1)
        numbers = [entry.data[0] for entry in lab.history.of("raw", "event", "flood")]
        assert numbers == list(range(16))

    _lab, traffic = with_raw(target, "websocket", deaf)
    assert PIECE < traffic.bytes["api-1→raw"] <= WINDOW + PIECE, "no more than fits into the window"
    with_raw(target, "websocket", hears_again)


@every_target
@every_transport
def test_one_that_vanishes_by_a_reset_is_missed_at_once(target: str, transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        await lab.on(raw.node, raw.client.vanish())
        await goes(lab, watcher, within=2 if transport == "websocket" else 2 * MISSED_SECONDS)

    _lab, traffic = with_raw(target, transport, behaves)
    assert traffic.kinds["raw→api-1 reset"]
    assert not (transport == "websocket" and traffic.kinds["raw→api-1 eof"])


@every_target
def test_one_that_vanishes_in_silence_is_missed_when_it_answers_no_ping(target: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        lab.drop(raw)
        gone = lab.world.now
        await goes(lab, watcher, within=2 * MISSED_SECONDS)
        assert lab.world.now - gone > 5.0

    _lab, traffic = with_raw(target, "websocket", behaves)
    assert not traffic.kinds["raw→api-1 reset"]


@every_target
def test_garbage_on_a_websocket_ends_it(target: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        await lab.on(raw.node, raw.client.send_garbage(b"\xff\xff\xff\xff no frame"))
        await goes(lab, watcher, within=2)
        ends = [entry.name for entry in lab.history.of("raw", "disconnected")]
        assert len(ends) == 1
        assert ends[0].startswith("closed 1002 "), "a protocol error"

    with_raw(target, "websocket", behaves)


@every_target
def test_garbage_beside_a_polling_session_does_it_no_harm(target: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        await lab.on(raw.node, raw.client.send_garbage(b"no request\r\n\r\n"))
        await lab.sleep(MISSED_SECONDS)
        assert raw.client.sid
        assert lab.checks.online(watcher) == {"ann", "wat"}

    with_raw(target, "polling", behaves)


@every_transport
def test_a_malformed_packet_ends_a_session_of_the_layer(transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        await lab.on(raw.node, raw.client.send_packet("4nonsense"))
        await goes(lab, watcher, within=2)

    with_raw("realtime", transport, behaves)


@every_target
@every_transport
def test_half_of_an_event_is_no_event_and_keeps_nobody_else_waiting(target: str, transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        said = '42["channel-events",{"channel_id":"general","data":{"type":"typing","mark":"half"}}]'
        await lab.on(raw.node, raw.client.send_half(said))
        await lab.connect("bob-1", "bob", "api-1")
        await lab.checks.everyone_sees([watcher], {"ann", "bob", "wat"}, within=2)
        assert not lab.checks.count("watcher", "channel-events")

    with_raw(target, transport, behaves)


@every_target
def test_where_nobody_listens_it_is_refused(target: str) -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        raw = lab.raw("raw")
        assert not await lab.on(raw.node, raw.client.connect("api-1", 81, None))
        assert [entry.data for entry in lab.history.of("raw", "refused")] == ["refused"]

    SimulatedLab(load(target), PlainSchedule()).run(scenario, seed=1)


@every_target
@every_transport
def test_one_that_connects_again_gives_its_former_connection_up(target: str, transport: str) -> None:
    async def behaves(lab: SimulatedLab, raw: RawNode, watcher: ClientNode) -> None:
        former = raw.client.sid
        assert await lab.connect_raw(raw, "ann", "api-1", transport=transport)
        assert raw.client.sid not in (None, former)
        await lab.sleep(3 * MISSED_SECONDS)
        assert lab.checks.online(watcher) == {"ann", "wat"}
        said = {"channel_id": "general", "data": {"type": "typing", "mark": "again"}}
        await lab.emit(watcher, "channel-events", said)
        await lab.sleep(1)
        assert lab.checks.count("raw", "channel-events") == 1

    with_raw(target, transport, behaves)
