"""A node's loop and asyncio's own do the same in the same order."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings

from tests.sim.programs import AsyncioBench, Interpreter, NodeBench, Op, Outside, Program, programs

IO_AND_TIMERS = Program(
    (
        Op("later", 3),
        Op("later", 3, then=(Op("soon"),)),
        Op("task", then=(Op("sleep", 3), Op("read"))),
        Op("stall", 5),
    ),
    (Outside(2, "bytes", 1), Outside(3, "bytes", 0), Outside(3, "connect"), Outside(4, "end", 1)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(IO_AND_TIMERS)
@given(programs)
def test_a_program_runs_in_the_same_order_on_both(program: Program) -> None:
    ours = Interpreter(NodeBench(), program).run()
    asyncios = Interpreter(AsyncioBench(), program).run()
    assert ours == asyncios


def test_after_a_stall_what_arrived_comes_before_the_timers_that_came_due() -> None:
    log = [what for _at, what in Interpreter(NodeBench(), IO_AND_TIMERS).run()]
    assert log.index("stream-1 received b'0;'") < log.index("main.0 called")
    assert log.index("main.0 called") < log.index("main.1 called")
