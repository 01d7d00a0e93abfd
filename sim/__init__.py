"""The simulator: the real stack on virtual time, the same run again and again; and a lab of real processes.

A ``world`` owns the clock and the order of events; each simulated host is a ``node``, an asyncio loop of its own, and
``network`` is TCP between them. On nodes run fakeredis (``redis_node``), a target's application under the real
uvicorn (``instance_node``, ``targets``), and clients: the real one (``client_node``) and one that may misbehave
(``raw_client``). ``determinism`` gives time and randomness to the world. A ``scenario`` is a coroutine on the verbs
of ``lab`` and ``faults``; ``invariants`` judge what clients saw (``history``, ``evidence``, ``linearizability``).

A ``plan`` holds messages back and makes faults at them; ``strategies`` make plans from the undisturbed run
(``baseline``), ``explore`` tries them on ``workers``, ``shrink`` makes a failing one small, ``case`` saves and
replays it, ``picture`` draws it. ``coverage`` says what was tried, ``compare`` does it all for every scenario and two
targets; ``cli`` has the commands.

``lab`` is what scenarios know; ``simulated`` is the lab of a world, ``processes`` has that of real things: Redis,
instances, clients, and a ``proxy`` on every link between them. ``likeness`` finds the messages of one in runs of the
other, ``confirmation`` tries there what was found here, ``inclusion`` the reverse.
"""

from importlib.util import find_spec

_missing = [
    name for name in ("aiohttp", "fakeredis", "greenlet", "lupa", "psutil", "rich") if find_spec(name) is None
]
if _missing:
    raise ModuleNotFoundError(
        f"the simulator needs {', '.join(_missing)}, which the layer alone does not: install the extra sim,"
        " in the checkout with pip install -e '.[sim]'"
    )
