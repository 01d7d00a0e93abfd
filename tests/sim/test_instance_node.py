"""An instance's end: what its process left open is closed for it, and a new one may take its place."""

from __future__ import annotations

from collections import Counter

import pytest

from sim.schedule import Message, PlainSchedule
from sim.simulated import SimulatedLab
from sim.targets import load

pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")


class Ends:
    """How connections to Redis were opened and ended, by host."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    def sent(self, message: Message, arrives_at: float) -> None:
        if message.target == "redis" and message.kind != "data":
            self.kinds[f"{message.source} {message.kind}"] += 1

    def arrived(self, message: Message, now: float) -> None:
        return None


@pytest.mark.parametrize("target", ["naive", "realtime"])
def test_a_process_that_ends_leaves_no_connection_behind(target: str) -> None:
    ends = Ends()

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        await lab.sleep(1)
        opened = ends.kinds["api-1 open"]
        assert opened >= 2
        lab.instances["api-1"].terminate()
        await lab.sleep(10)
        assert lab.instances["api-1"].ended
        assert tab.sid is None
        assert ends.kinds["api-1 eof"] + ends.kinds["api-1 reset"] == opened
        await lab.start("api-1")
        assert await lab.connect_again(tab, "ann", "api-1")

    lab = SimulatedLab(load(target), PlainSchedule())
    lab.network.observers.append(ends)
    lab.run(scenario, seed=1)
