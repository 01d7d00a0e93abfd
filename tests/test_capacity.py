"""The capacity page: a forecast is a sum that behaves like one, costs are measured, and the page says what it found."""

from __future__ import annotations

import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.capacity.check import Checked, lab_demand
from tests.bench.capacity.costs import Cost, Costs, Scale, measure_costs
from tests.bench.capacity.demands import Habits, demand_of
from tests.bench.capacity.model import LIST_BYTES_PER_SECOND, Demand, forecast, instances_for
from tests.bench.capacity.page import Measured, first_to_give, fits, needed, text, write
from tests.bench.wire.machine import many_files

COSTS = Costs(
    instance=Cost(3e-3, 0.0, 1e-3, 9.0, 500.0),
    instance_bytes=90e6,
    connection_bytes=22e3,
    probe=Cost(2e-4),
    heartbeat=Cost(5e-5),
    session=Cost(3e-3, 2e-4, 3e-4, 85.0, 2000.0),
    event=Cost(7e-4, 3e-4, 3e-5, 1.0, 1300.0),
    event_byte=Cost(1e-8),
    delivery=3e-6,
    delivery_byte=1e-9,
    in_use=Cost(5e-3, 0.0, 1e-3, 30.0, 900.0),
    usage=Cost(2e-4, 0.0, 7e-5, 8.0, 200.0),
    word=Cost(1e-4, 5e-5, 2e-5, 1.0, 700.0),
    keeping=1e-3,
    polled=1e-4,
    listener=Cost(0.0, redis=1e-6, redis_bytes=290.0),
)
RATES = [each.name for each in fields(Demand) if each.name not in ("kept", "presence", "id_bytes", "polling")]
NOBODY = replace(demand_of(0, Habits(), "none"), probes=0.0, polling=0.0)

people = st.floats(1, 200_000)
presences = st.sampled_from(["lists", "diffs", "none"])
instances = st.integers(1, 60)


@given(people, presences, instances, st.sampled_from(RATES), st.floats(1.01, 10))
def test_more_of_anything_never_costs_less(users, presence, count, rate, factor) -> None:  # type: ignore[no-untyped-def]
    demand = demand_of(users, Habits(), presence)
    less = forecast(COSTS, demand, count)
    more = forecast(COSTS, replace(demand, **{rate: getattr(demand, rate) * factor}), count)
    parts = ["redis_cores", "redis_commands", "redis_bytes", "presence_bytes", "memory"]
    if more.presence_keeps_up:  # beyond that, longer lists are fewer
        parts.append("cores")
    for part in parts:
        assert getattr(more, part) >= getattr(less, part) * (1 - 1e-9)


@given(instances)
def test_a_fleet_that_nobody_uses_costs_what_its_instances_do(count: int) -> None:
    found = forecast(COSTS, NOBODY, count)
    assert found.cores == pytest.approx(count * COSTS.instance.here)
    assert found.redis_cores == pytest.approx(count * COSTS.instance.redis)
    assert (found.client_bytes, found.presence_bytes) == (0, 0)


@given(people, presences, instances)
def test_presence_takes_no_more_bytes_than_its_bound(users, presence, count) -> None:  # type: ignore[no-untyped-def]
    demand = replace(demand_of(users, Habits(), presence), events=0.0, words=0.0)
    found = forecast(COSTS, demand, count)
    assert found.client_bytes <= LIST_BYTES_PER_SECOND * count
    assert found.presence_keeps_up == (found.presence_bytes <= LIST_BYTES_PER_SECOND * count)


@given(people, presences, st.floats(0.2, 0.9))
def test_the_instances_it_names_are_enough_and_one_fewer_is_not(users, presence, share) -> None:  # type: ignore[no-untyped-def]
    demand = demand_of(users, Habits(), presence)
    count = instances_for(COSTS, demand, share=share, sessions=20_000)
    if not count:
        assert all(forecast(COSTS, demand, each).share > share for each in (100, 1000, 9000))
        return
    assert forecast(COSTS, demand, count).share <= share
    assert demand.sessions / count <= 20_000
    if count > 1:
        fewer = count - 1
        assert demand.sessions / fewer > 20_000 or forecast(COSTS, demand, fewer).share > share


def test_an_event_is_heard_by_the_instances_that_have_someone_and_by_each_of_them_once() -> None:
    alone = replace(NOBODY, events=1.0, audience=1.0, event_bytes=1.0)
    costs = replace(COSTS, delivery=0.0, delivery_byte=0.0, instance=Cost(0.0))
    assert forecast(costs, alone, 50).cores == pytest.approx(COSTS.event.here)
    everywhere = forecast(costs, replace(alone, audience=1e9), 50)
    assert everywhere.cores == pytest.approx(COSTS.event.here + 49 * COSTS.event.there)


def test_what_gives_way_first_is_borne_below_and_not_above() -> None:
    for presence in ("diffs", "lists", "none"):
        users, what = first_to_give(COSTS, Habits(), presence)  # type: ignore[arg-type]
        below = needed(COSTS, Habits(), presence, users)  # type: ignore[arg-type]
        assert below is not None
        assert below.presence_keeps_up
        assert below.redis_cores <= 0.6
        assert what != "nothing"
    words = replace(COSTS, word=replace(COSTS.word, redis=1e-3))
    assert first_to_give(words, Habits(), "none")[1] == "Redis' core: words of answers"


def test_who_is_online_told_to_all_gives_way_before_anything_else_does() -> None:
    everyone, what = first_to_give(COSTS, Habits(), "lists")
    assert what == "the bound on the bytes of who is online"
    assert everyone < first_to_give(COSTS, Habits(), "none")[0]


@pytest.mark.parametrize(("words", "beyond"), [(1e-9, False), (1e-3, True)])
def test_people_for_whom_redis_has_not_cores_enough_are_not_promised_by_more_instances(
    words: float, beyond: bool
) -> None:
    costs = replace(COSTS, word=replace(COSTS.word, redis=words))
    page = text(Measured(costs, costs, []))
    (line,) = [line for line in page.splitlines() if line.startswith("- **100,000 people**")]
    assert ("more of Redis than its one core bears" in line) is beyond


def run_of(cores: float, doubts: list[str] | None = None) -> Checked:
    expected = forecast(COSTS, lab_demand(100), 2)
    return Checked(
        users=100,
        forecast=expected,
        cores=cores * expected.cores,
        redis_cores=expected.redis_cores,
        redis_commands=expected.redis_commands,
        memory=expected.memory,
        doubts=doubts or [],
    )


@pytest.mark.parametrize(
    ("factor", "believed"), [(1.0, True), (1.25, True), (1.4, False), (0.8, True), (0.7, False)]
)
def test_a_run_is_as_forecast_within_the_bound_the_page_names(factor: float, believed: bool) -> None:
    pair = [run_of(factor), run_of(factor).against(COSTS)]
    assert fits(pair) is believed
    page = text(Measured(COSTS, COSTS, [pair]))
    assert ("NOT as forecast" in page) is not believed


def test_a_run_that_cannot_be_believed_is_not_as_forecast_and_says_why(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pair = [run_of(1.0, ["the generator was late"]), run_of(1.0)]
    assert not fits(pair)
    write(Measured(COSTS, COSTS, [pair]), tmp_path)
    page = (tmp_path / "capacity.md").read_text()
    assert "not to be believed: the generator was late" in page
    assert "$" not in page  # every place is filled


@pytest.mark.e2e
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and pins cores")
def test_costs_are_measured_between_real_processes() -> None:
    tiny = {"few": 4, "many": 10, "events": 8, "sessions": 10, "words": 40, "heartbeats": 2, "pollers": 3}
    with many_files():
        costs = measure_costs(Scale(calm=False, rounds=1, idle_seconds=1.0, **tiny))
    assert costs.session.here > 0
    assert 20e6 < costs.instance_bytes < 1e9
    # What does not depend on the machine's speed: how much of Redis each takes.
    assert costs.session.commands > 40
    assert costs.usage.commands > 4
    assert costs.word.commands > 0.5
    assert costs.session.commands > costs.usage.commands > costs.word.commands
    assert costs.event_byte.redis_bytes == pytest.approx(3, rel=0.2)  # in once, out to two
