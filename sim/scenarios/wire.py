"""Faults of the wire itself: clients that do not keep up."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario
from sim.scenarios import steady

PIECE = 64 * 1024
TOTAL = 4 * 1024 * 1024
AT_ONCE = 8


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
    slow = await steady.come_raw(lab, lab.raw("ann-1"), "ann", "api-1")
    await lab.on(slow.node, slow.client.stop_reading())
    sent = 0
    for number in range(0, TOTAL // PIECE, AT_ONCE):
        answers = await lab.together(
            *(
                lab.knock(
                    "api-1",
                    "tell",
                    {
                        "event": "flood",
                        "data": {"mark": str(number + each), "text": "x" * PIECE},
                        "user_ids": ["ann"],
                    },
                )
                for each in range(AT_ONCE)
            )
        )
        sent += PIECE * sum(status == 200 for status, _answer in answers)
    if sent >= TOTAL:
        lab.reach("4 MiB were sent to who did not read")
    await lab.on(slow.node, slow.client.go_on_reading())
    await lab.checks.becomes(
        "slow-consumer-is-closed",
        lambda: slow.client.sid is None,
        lambda: f"ann reads again and is connected, {lab.checks.count(slow.name, 'flood')} pieces came late",
        within=10.0,
        after_faults=True,
    )
    late = lab.checks.count(slow.name, "flood")
    lab.checks.hold(
        "nothing-is-kept-without-bound", late * PIECE < TOTAL, f"all {late} pieces were kept and came late"
    )
