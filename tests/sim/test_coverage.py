"""What exploring says it has covered is what it has covered."""

from __future__ import annotations

from sim.coverage import Coverage, Orders
from sim.explore import Report, explore, undisturbed
from sim.plan import CRASH, Fault, Plan
from sim.run import Outcome, Result
from sim.scenario import find
from sim.schedule import Hold, Message
from sim.strategies import strategy


def order_of(*said: str) -> str:
    """The digest of commands like ``a GET k``: host, command, key."""
    orders = Orders()
    for number, line in enumerate(said):
        source, *words = line.split()
        data = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        name = f"{source}→redis #{number}"
        message = Message(name, source, "redis", "data", b"*%d\r\n" % len(words) + data, 0.0)
        orders.arrived(message, 0.0)
    return orders.digest()


def test_another_order_of_conflicting_commands_is_another_order() -> None:
    assert order_of("a SET k", "b SET k") != order_of("b SET k", "a SET k")
    assert order_of("a GET k", "b SET k") != order_of("b SET k", "a GET k")


def test_the_order_of_reads_and_of_different_keys_is_no_matter() -> None:
    assert order_of("a SET k", "a GET k", "b GET k") == order_of("a SET k", "b GET k", "a GET k")
    assert order_of("a SET k", "b SET l") == order_of("b SET l", "a SET k")


def test_names_of_keys_are_no_matter_since_they_may_be_drawn() -> None:
    assert order_of("a SET k", "b GET k") == order_of("a SET other", "b GET other")


def test_an_inversion_is_another_order_than_the_undisturbed_run() -> None:
    scenario = find("user-pool-lost-update")
    calm, _baseline = undisturbed(scenario, "naive")
    again, _baseline = undisturbed(scenario, "naive")
    report = explore(scenario, "naive", strategy("single-fault"), schedules=1)
    assert calm.orders == again.orders
    assert report.coverage.orders == 2


def result(plan: Plan, outcome: Outcome = Outcome.HELD, orders: str = "", *bitten: str) -> Result:
    return Result(outcome, plan, 0, bitten=frozenset(bitten), orders=orders)


def test_the_number_of_orders_is_told_after_each_quarter() -> None:
    coverage = Coverage()
    for orders in "abcdaaab":
        coverage.add(Plan(), orders, frozenset())
    assert coverage.orders == 4
    assert coverage.orders_by_quarter() == [2, 4, 4, 4]


def test_what_never_bit_is_named_and_counted() -> None:
    coverage = Coverage()
    crash = Plan(holds=(Hold("a→b #1", 0.1),), faults=(Fault(CRASH, "b→a #9"),))
    coverage.add(crash, "", frozenset({"a→b #1"}))
    coverage.add(crash, "", frozenset({"a→b #1", "b→a #9"}))
    coverage.add(Plan(holds=(Hold("a→b #2", 0.1),)), "", frozenset())
    assert coverage.planned == {"hold": 3, "crash": 2}
    assert coverage.bitten == {"hold": 2, "crash": 1}
    assert coverage.unbitten == {"crash at b→a #9": 1, "hold at a→b #2": 1}


def test_more_than_a_twentieth_of_inconclusive_runs_is_too_many() -> None:
    report = Report("some", "naive", "random")
    report.begin(result(Plan()))
    for _ in range(38):
        report.add(result(Plan()))
    report.add(result(Plan(), Outcome.INCONCLUSIVE))
    report.add(result(Plan(), Outcome.INCONCLUSIVE))
    assert (report.inconclusive, report.runs, report.outcome) == (2, 41, Outcome.HELD)
    report.add(result(Plan(), Outcome.INCONCLUSIVE))
    assert report.outcome is Outcome.INCONCLUSIVE
