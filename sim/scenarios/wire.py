"""Faults of the wire itself: clients that do not keep up."""

from __future__ import annotations

from typing import Any

from sim.lab import Lab
from sim.scenario import scenario
from sim.scenarios import steady

PIECE = 64 * 1024
TOTAL = 4 * 1024 * 1024
AT_ONCE = 8
FLOOD_SECONDS = 60.0


@scenario(
    "slow-consumer",
    "d",
    "a client that stops reading during 4 MiB of emits is closed, so that the server need not keep them",
    reaches=("4 MiB were sent to who did not read",),
)
async def slow_consumer(lab: Lab) -> None:
    """What a server keeps cannot be seen from outside; that the client reads again and finds itself cut off can."""
    await steady.serve(lab, "api-1")
    await steady.come(lab, lab.client("bob-1"), "bob", "api-1")
    deadline = lab.now + FLOOD_SECONDS
    while True:
        slow = await steady.come_raw(lab, lab.raw("ann-1"), "ann", "api-1")
        await lab.do(slow, slow.client.stop_reading())
        before = lab.checks.count(slow.name, "flood")
        if await _flood(lab):
            lab.reach("4 MiB were sent to who did not read")
            break
        if lab.now > deadline:
            return
        await lab.sleep(steady.AGAIN_SECONDS)
    await lab.do(slow, slow.client.go_on_reading())
    await lab.checks.becomes(
        "slow-consumer-is-closed",
        lambda: slow.client.sid is None,
        lambda: (
            f"ann reads again and is connected, {lab.checks.count(slow.name, 'flood') - before} pieces came late"
        ),
        within=10.0,
        after_faults=True,
    )
    late = lab.checks.count(slow.name, "flood") - before
    lab.checks.hold(
        "nothing-is-kept-without-bound", late * PIECE < TOTAL, f"all {late} pieces were kept and came late"
    )


async def _flood(lab: Lab) -> bool:
    """Whether all of it was taken: an instance that dies meanwhile takes with it what it had kept."""
    for number in range(0, TOTAL // PIECE, AT_ONCE):
        marks = range(number, number + AT_ONCE)
        answers = await lab.together(*(lab.knock("api-1", "tell", _piece(mark)) for mark in marks))
        if any(status != 200 for status, _answer in answers):
            return False
    return True


def _piece(mark: int) -> dict[str, Any]:
    data = {"mark": str(mark), "text": "x" * PIECE}
    return {"event": "flood", "data": data, "user_ids": ["ann"]}
