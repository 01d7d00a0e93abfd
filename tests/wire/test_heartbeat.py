"""The heartbeat by itself, in virtual time: whole hours of pings, and stalls to the millisecond."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.wire.heartbeat import GRAINS, LOOKS, PINGS_PER_TURN, Heartbeat
from tests.support import virtual_time
from tests.support.virtual_time import VirtualTimeLoop


@dataclass
class Ward:
    """Sessions by number, with the times at which they were pinged and lost. `answers_after`: seconds, or never."""

    interval: float = 25.0
    timeout: float = 20.0
    answers_after: dict[int, float] = field(default_factory=dict)
    pings: list[tuple[float, int]] = field(default_factory=list)
    lost: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heartbeat = Heartbeat[int](self.interval, self.timeout, ping=self._ping, lost=self._lost)

    def _ping(self, session: int) -> None:
        self.pings.append((now(), session))
        if session in self.answers_after:
            asyncio.get_running_loop().call_later(self.answers_after[session], self.heartbeat.heard, session)

    def _lost(self, session: int) -> None:
        self.lost.append((now(), session))


def now() -> float:
    return asyncio.get_running_loop().time()


def stall(seconds: float) -> None:
    """This process stands still; what came meanwhile is read when it wakes, as are timers."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._now += seconds


def test_a_ping_leaves_an_interval_after_the_beginning_and_after_each_answer() -> None:
    async def scenario() -> None:
        ward = Ward(interval=0.3, answers_after={1: 0.05})
        began = now()
        ward.heartbeat.begin(1)
        await asyncio.sleep(1.2)
        times = [at - began for at, _ in ward.pings]
        assert times == pytest.approx([0.3, 0.65, 1.0], abs=0.3 / GRAINS + 0.001)
        assert not ward.lost

    virtual_time.run(scenario())


def test_a_short_interval_is_kept_while_a_long_timeout_runs_for_others() -> None:
    async def scenario() -> None:
        ward = Ward(interval=0.1, timeout=1000.0)
        ward.heartbeat.begin(1)  # which never answers
        await asyncio.sleep(0.5)
        ward.heartbeat.begin(2)
        came = now()
        await asyncio.sleep(0.2)
        assert [(at - came, who) for at, who in ward.pings[1:]] == [(pytest.approx(0.1, abs=0.01), 2)]

    virtual_time.run(scenario())


def test_who_does_not_answer_is_lost_once_after_the_timeout_and_not_much_later() -> None:
    async def scenario() -> None:
        ward = Ward(answers_after={2: 1.0, 3: 19.9})
        for each in (1, 2, 3):
            ward.heartbeat.begin(each)
        await asyncio.sleep(600)
        ((at, who),) = ward.lost
        pinged = min(when for when, session in ward.pings if session == 1)
        assert who == 1
        assert 20.0 < at - pinged <= 20.0 * (1 + 2 / LOOKS)
        assert Counter(session for _, session in ward.pings)[1] == 1
        assert len(ward.heartbeat) == 2

    virtual_time.run(scenario())


def test_an_answer_that_nobody_asked_for_puts_no_ping_off() -> None:
    async def scenario() -> None:
        ward = Ward(interval=10.0)
        ward.heartbeat.begin(1)
        began = now()
        for _ in range(3):
            await asyncio.sleep(3)
            ward.heartbeat.heard(1)
        ward.heartbeat.heard(2)
        await asyncio.sleep(2)
        assert [(at - began, who) for at, who in ward.pings] == [(pytest.approx(10, abs=0.1), 1)]
        assert len(ward.heartbeat) == 1

    virtual_time.run(scenario())


@pytest.mark.parametrize("pinged", [False, True])
def test_who_was_forgotten_is_neither_pinged_nor_lost(pinged: bool) -> None:
    async def scenario() -> None:
        ward = Ward()
        ward.heartbeat.begin(1)
        await asyncio.sleep(30 if pinged else 5)
        ward.heartbeat.forget(1)
        await asyncio.sleep(100)
        assert len(ward.pings) == pinged
        assert not ward.lost
        assert len(ward.heartbeat) == 0

    virtual_time.run(scenario())


@pytest.mark.parametrize("stalled_after", [0.5 * each for each in range(40)])
def test_nobody_is_lost_by_a_stall_in_which_the_answer_came(stalled_after: float) -> None:
    """The answer comes in time, but is read only after the timers that came due have had their turn."""

    async def scenario() -> None:
        ward = Ward()
        ward.heartbeat.begin(0)  # is not heard, so that the first look comes just after the other's ping
        await asyncio.sleep(20.0 / LOOKS - 0.01)
        ward.heartbeat.begin(1)
        await asyncio.sleep(25 + stalled_after)
        stall(300)
        await asyncio.sleep(0.01)
        ward.heartbeat.heard(1)
        await asyncio.sleep(26)
        assert [who for _, who in ward.lost] == [0]
        assert [who for _, who in ward.pings] == [0, 1, 1]

    virtual_time.run(scenario())


def test_after_a_stall_those_who_are_due_are_pinged_at_once() -> None:
    async def scenario() -> None:
        ward = Ward(answers_after={1: 0.1})
        ward.heartbeat.begin(1)
        await asyncio.sleep(10)
        stall(40)
        woke = now()
        await asyncio.sleep(1)
        assert [at - woke for at, _ in ward.pings] == [pytest.approx(0, abs=0.01)]

    virtual_time.run(scenario())


def test_of_thousands_that_came_together_a_few_are_pinged_in_a_turn() -> None:
    async def scenario() -> None:
        ward = Ward(answers_after=dict.fromkeys(range(5000), 0.05))
        for each in range(5000):
            ward.heartbeat.begin(each)
        await asyncio.sleep(24.9)
        most = 0
        while len(ward.pings) < 5000:
            before = len(ward.pings)
            await asyncio.sleep(0.0)
            most = max(most, len(ward.pings) - before)
            if len(ward.pings) == before:
                await asyncio.sleep(0.01)
        assert 0 < most <= PINGS_PER_TURN
        assert ward.pings[-1][0] - ward.pings[0][0] < 1
        assert [who for _, who in ward.pings] == list(range(5000))

    virtual_time.run(scenario())


def test_an_idle_instance_wakes_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        ward = Ward(answers_after={1: 0.05})
        wakes = 0
        beat = Heartbeat._beat

        def counted(self: Heartbeat[int]) -> None:
            nonlocal wakes
            wakes += 1
            beat(self)

        monkeypatch.setattr(Heartbeat, "_beat", counted)
        ward.heartbeat.begin(1)
        await asyncio.sleep(250.5 + 25)
        assert len(ward.pings) == 11
        assert wakes <= 2 * len(ward.pings)  # one for the ping, one for its answer
        ward.heartbeat.forget(1)
        before = wakes
        await asyncio.sleep(1000)
        assert wakes <= before + 2

    virtual_time.run(scenario())


def test_thousands_of_sessions_share_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        ward = Ward(answers_after=dict.fromkeys(range(3000), 0.05))
        for each in range(3000):
            ward.heartbeat.begin(each)
            await asyncio.sleep(25 / 3000)
        wakes = 0
        beat = Heartbeat._beat

        def counted(self: Heartbeat[int]) -> None:
            nonlocal wakes
            wakes += 1
            beat(self)

        monkeypatch.setattr(Heartbeat, "_beat", counted)
        ward.pings.clear()
        await asyncio.sleep(25.05)
        assert len(ward.pings) == pytest.approx(3000, abs=20)
        assert wakes <= GRAINS + LOOKS + 20

    virtual_time.run(scenario())


def test_a_callback_that_raises_ends_the_heartbeat_of_nobody_else() -> None:
    async def scenario() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        pinged: list[int] = []

        def ping(session: int) -> None:
            pinged.append(session)
            if session == 1:
                raise RuntimeError("broken")

        heartbeat = Heartbeat[int](25.0, 20.0, ping=ping, lost=lambda _: None)
        heartbeat.begin(1)
        await asyncio.sleep(1)
        heartbeat.begin(2)
        await asyncio.sleep(30)
        assert pinged == [1, 2]
        assert len(errors) == 1

    virtual_time.run(scenario())


def test_a_stopped_heartbeat_leaves_no_timer() -> None:
    async def scenario() -> None:
        ward = Ward()
        ward.heartbeat.begin(1)
        await asyncio.sleep(26)
        ward.heartbeat.begin(2)
        ward.heartbeat.stop()
        assert ward.heartbeat._timer is None
        assert len(ward.heartbeat) == 0

    virtual_time.run(scenario())


@given(
    interval=st.floats(0.05, 60),
    timeout=st.floats(0.05, 60),
    clients=st.lists(
        st.tuples(st.floats(0, 100), st.none() | st.floats(0, 0.99), st.none() | st.floats(0, 200)),
        min_size=1,
        max_size=12,
    ),
)
def test_whenever_clients_come_answer_and_go_each_is_pinged_and_only_the_silent_are_lost(
    interval: float, timeout: float, clients: list[tuple[float, float | None, float | None]]
) -> None:
    """A client: when it comes, after which part of the timeout it answers, after how long it leaves."""

    async def scenario() -> None:
        ward = Ward(interval, timeout)
        began = now()
        left: dict[int, float] = {}
        loop = asyncio.get_running_loop()
        for number, (comes, answers, stays) in enumerate(clients):
            loop.call_at(began + comes, ward.heartbeat.begin, number)
            if answers is not None:
                ward.answers_after[number] = answers * timeout
            if stays is not None:
                left[number] = began + comes + stays
                loop.call_at(left[number], ward.heartbeat.forget, number)
        end = 300.0
        await asyncio.sleep(end)
        slack = interval / GRAINS + 0.002
        lost = {who: at for at, who in ward.lost}
        assert len(lost) == len(ward.lost)
        for number, (comes, answers, _) in enumerate(clients):
            times = [at for at, who in ward.pings if who == number]
            until = min(left.get(number, began + end), lost.get(number, began + end))
            if answers is not None:
                assert number not in lost
                previous, wait = began + comes, interval
                for at in [*times, None]:
                    if at is None:
                        assert previous + wait + slack >= until
                    else:
                        assert previous + wait - 0.001 <= at <= previous + wait + slack
                        previous, wait = at, answers * timeout + interval
            elif number in lost:
                assert len(times) == 1
                assert timeout - 0.001 <= lost[number] - times[0] <= timeout * (1 + 3 / LOOKS) + slack
            else:
                late = comes + interval + timeout * (1 + 3 / LOOKS) + slack
                assert until - began <= late

    virtual_time.run(scenario())
