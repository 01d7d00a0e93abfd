"""What the whole process shares."""

from datetime import UTC, datetime

started: list[str] = []
counter = 0


def stamp() -> str:
    return datetime.now(UTC).isoformat()
