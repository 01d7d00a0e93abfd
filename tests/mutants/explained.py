"""What survives, and why that is right: each by its name in the report, with its reason."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "state/scripts/usage.lua: feared: a model that ends now is listed": (
        "no use of such a model ends later than now, so its row has no session, and RedisState.usage drops such rows"
    ),
    "shared_channels.py _room: condition negated: diffs": (
        "the two rooms of a user swap their names, which nobody but this function knows"
    ),
}
"""Nobody can see a difference, whatever happens: they do not count."""

ACCEPTED: dict[str, str] = {
    "replica.py: feared: a fresh start looks like a step back": (
        "one snapshot more is asked for, and only where versions went back, which asks for one anyhow"
    ),
    "replica.py Replica._drain: call left out: self._wanted.set()": (
        "what is pending has asked for a snapshot itself when it came; this asks once more"
    ),
    "shared_channels.py: time /10: 0.01": (
        "TURN_SECONDS is how long a broadcast keeps the loop from others; ten times as many turns cost next to nothing"
    ),
    "housekeeping.py: time x10: 0.1": (
        "LOOK_SECONDS bounds the pause while a model is in use, so that the end is known 50 ms later at most, which is"
        " within the promised 250 ms"
    ),
}
"""There is a difference, but none that matters enough for a test: they count as survivors."""
