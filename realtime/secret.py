"""What makes a signing key too weak to protect anyone."""

from __future__ import annotations

# HS256 needs a key at least as long as its hash (RFC 7518, section 3.2).
MIN_SECRET_BYTES = 32

# Published on purpose: a demo needs a key that all its instances share, and listens on loopback only.
DEMO_SECRET_KEY = "demo-only-well-known-key-never-use-it-where-others-can-reach-it"

# Defaults of chat systems and of token tutorials: everyone has them.
_KNOWN = frozenset(
    {
        DEMO_SECRET_KEY,
        "t0p-s3cr3t",
        "0p3n-w3bu!",
        "secret",
        "secret-key",
        "changeme",
        "your-256-bit-secret",
        "your-secret-key",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    }
)


def weakness(key: str) -> str | None:
    """Why `key` must not sign tokens, or None. The answer never contains the key."""
    if not key.strip():
        return "missing"
    if key.strip().lower() in _KNOWN:
        return "a well-known default, anyone can sign tokens with it"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "not valid text"
    if size < MIN_SECRET_BYTES:
        return f"too short ({size} bytes)"
    # A text repeats a shorter one exactly if it occurs inside itself doubled, other than at the ends.
    if key in (key + key)[1:-1]:
        return "one short pattern repeated"
    if len(set(key)) < 8:
        return "made of fewer than 8 different characters"
    return None
