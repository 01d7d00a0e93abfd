"""What survives, and why that is right: each by its name in the report, with its reason."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
"""Nobody can see a difference, whatever happens: they do not count."""

ACCEPTED: dict[str, str] = {}
"""There is a difference, but none that matters enough for a test: they count as survivors."""
