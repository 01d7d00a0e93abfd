"""What a balancer's configuration is made of: instances, the address it listens on, and how long things may take."""

from __future__ import annotations

import ipaddress
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from realtime.settings import INSTANCE_NAME_PATTERN
from realtime.tags import TAG_LENGTH, TAG_PATTERN, tag_of

MARGIN_SECONDS = 15
"""What a balancer waits longer than an instance does: the instance is to be the first to give up."""

_HOST = r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]"
_INSTANCE = re.compile(rf"(?P<name>[^=/]*)(/(?P<tag>[^=/]*))?=(?P<host>{_HOST}):(?P<port>[0-9]{{1,5}})")
_LISTEN = re.compile(rf"((?P<host>{_HOST}|\*):)?(?P<port>[0-9]{{1,5}})")


@dataclass(frozen=True, slots=True)
class Backend:
    """One instance, by its REALTIME_INSTANCE_NAME, and where the balancer reaches it."""

    name: str
    tag: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `NAME=HOST:PORT` or, where REALTIME_INSTANCE_TAG is set, `NAME/TAG=HOST:PORT`. Raises `ValueError`."""
        match = _INSTANCE.fullmatch(text)
        if match is None or not _is_place(match):
            raise ValueError(f"{text!r}: give NAME=HOST:PORT (an IPv6 address in [ ])")
        name, tag = match["name"], match["tag"]
        if not re.fullmatch(INSTANCE_NAME_PATTERN, name):
            raise ValueError(f"{text!r}: a name is 1 to 100 letters, digits, and any of . _ -")
        if tag is not None and not re.fullmatch(TAG_PATTERN, tag):
            raise ValueError(f"{text!r}: a tag is {TAG_LENGTH} lower-case letters and digits")
        return cls(name, tag or tag_of(name), f"{match['host']}:{int(match['port'])}")

    @property
    def variables(self) -> str:
        """What the instance is to be started with."""
        named = f"REALTIME_INSTANCE_NAME={self.name}"
        return named if self.tag == tag_of(self.name) else f"{named} REALTIME_INSTANCE_TAG={self.tag}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`patience`: seconds for which a request or a websocket may rest. `max_body`: bytes of a request."""

    backends: Sequence[Backend]
    listen: str
    patience: int
    max_body: int
    command: str

    @property
    def made_by(self) -> str:
        """The command as comments; nginx refuses one of more than 4 KiB."""
        lines = textwrap.wrap(self.command, 110, break_long_words=False, break_on_hyphens=False)
        return "# Made by: " + " \\\n#   ".join(lines)


def check_listen(text: str) -> str:
    """`PORT` or `HOST:PORT`, as given. Raises `ValueError`."""
    match = _LISTEN.fullmatch(text)
    if match is None or not _is_place(match):
        raise ValueError(f"{text!r}: give PORT or HOST:PORT (an IPv6 address in [ ])")
    return text


def check_distinct(backends: Sequence[Backend]) -> None:
    """Raises `ValueError` where two instances could not be told apart."""
    for what, remedy in (
        ("name", "every instance needs a name of its own"),
        ("address", "one address, one instance: workers that share a port cannot be routed to"),
        ("tag", "give one of them another REALTIME_INSTANCE_TAG, and here NAME/TAG=HOST:PORT"),
    ):
        value, times = Counter(getattr(each, what) for each in backends).most_common(1)[0]
        if times > 1:
            raise ValueError(f"the {what} {value} is given {times} times: {remedy}")


def patience(ping_interval: float, ping_timeout: float) -> int:
    """Seconds after which a connection on which nothing comes is given up: a ping should have come long before."""
    return math.ceil(ping_interval + ping_timeout) + MARGIN_SECONDS


def _is_place(match: re.Match[str]) -> bool:
    host = match["host"] or ""
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
    return 0 < int(match["port"]) < 65536
