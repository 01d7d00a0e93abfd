"""Redis commands inside messages: which keys they touch, and whether two of them conflict."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

READS = frozenset(
    """
    EXISTS GET HEXISTS HGET HGETALL HKEYS HLEN HMGET HVALS LRANGE MGET SCARD SISMEMBER SMEMBERS TTL TYPE ZCARD
    ZCOUNT ZRANGE ZRANGEBYSCORE ZSCORE
    """.split()  # noqa: SIM905  # a list of quoted words is no easier to read
)
KEYLESS = frozenset(
    "AUTH CLIENT CLUSTER COMMAND CONFIG HELLO INFO PING SCRIPT SELECT SUBSCRIBE TIME UNSUBSCRIBE".split()  # noqa: SIM905
)

_ID = re.compile(r"[\w-]{20,}")
"""Of sockets, of hosts: nobody else says anything so long without a space."""


@dataclass(frozen=True, slots=True)
class Command:
    """``key`` is what it touches, empty for none; a script's is its first key. ``said``: of what is published, a digest
    without the ids in it, which are others in each run."""

    name: str
    key: str
    writes: bool
    said: str = ""


def commands(data: bytes) -> Iterator[Command]:
    """The commands of one message. What is no complete command of the protocol's array form is passed over."""
    at = 0
    while at < len(data) and data[at : at + 1] == b"*":
        try:
            count, at = _number(data, at)
            words = []
            for _ in range(count):
                size, at = _number(data, at)
                words.append(data[at : at + size])
                at += size + 2
        except ValueError:
            return
        if words:
            yield of_words([word.decode(errors="replace") for word in words])


def conflict(one: Command, other: Command) -> bool:
    """Whether their order can matter: the same key, and at least one writes."""
    return bool(one.key) and one.key == other.key and (one.writes or other.writes)


def _number(data: bytes, at: int) -> tuple[int, int]:
    end = data.index(b"\r\n", at)
    return int(data[at + 1 : end]), end + 2


def of_words(words: list[str]) -> Command:
    """A command by its first words: the name, and those among which its key is."""
    name = words[0].upper()
    if name in KEYLESS or len(words) < 2:
        return Command(name, "", False)
    if name in ("EVAL", "EVALSHA", "FCALL"):
        return Command(name, words[3] if len(words) > 3 else "", True)
    if name == "PUBLISH":
        return Command(name, words[1], True, digest(words[2]) if len(words) > 2 else "")
    return Command(name, words[1], name not in READS)


def digest(text: str) -> str:
    """Equal for two texts that differ in ids only, which are others in each run."""
    return hashlib.blake2b(_ID.sub("", text).encode(errors="replace"), digest_size=6).hexdigest()
