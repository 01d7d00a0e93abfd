"""The verbs of scenarios. Whose hosts they move, simulated ones or real processes, is the lab's own affair.

A scenario takes a ``Lab`` and nothing more than that: so it runs in virtual time (``sim.simulated``) and on real
processes (``sim.processes.lab``) as it is.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import jwt

from sim.client import Client, Raw
from sim.errors import SimulatorError
from sim.faults import Faults
from sim.history import Entry, History
from sim.invariants import Checks
from sim.targets import SECRET

T = TypeVar("T")

START_SECONDS = 30.0
POLL_SECONDS = 0.01


class Instance(Protocol):
    """What a scenario may know of an instance. ``ended``: it died, or gave up."""

    @property
    def running(self) -> bool: ...

    @property
    def ended(self) -> bool: ...


class Lab(Faults):
    """Made for one run. Times are seconds since its beginning."""

    instances: Mapping[str, Instance]

    def __init__(self, *, skips: frozenset[str] = frozenset()) -> None:
        """``skips``: actions of clients and faults that are left out, by name."""
        self.history = History(note=self._note)
        self.reached: dict[str, int] = {}
        self.checks = Checks(self)
        self.seed = 0
        self.config = ""
        """What a random workload drew from the seed, in words."""
        self.actions: list[str] = []
        """What clients did and what was done to hosts, by name, in order: ``ann-1 emit #2``; what was skipped is not
        among it."""
        self._lasting_until = 0.0
        self._skips = skips
        self._counted: Counter[str] = Counter()
        self._knocks = 0

    # What a lab is made of

    @abstractmethod
    def wall_time(self) -> float:
        """Unix seconds, as clients see them."""

    @abstractmethod
    def bound(self, seconds: float) -> float:
        """How long something may take here that may take so long at most: more where a machine is busy."""

    @abstractmethod
    async def start(self, *names: str) -> None:
        """Starts instances, all at once, and waits until they serve."""

    @abstractmethod
    def client(self, name: str) -> Client:
        """A tab that is not connected yet."""

    @abstractmethod
    def raw(self, name: str) -> Raw:
        """A client of which anything may be expected; not connected yet."""

    @abstractmethod
    def place(self, who: Client | Raw, instance: str) -> tuple[str, int]:
        """Host and port at which somebody finds an instance."""

    @abstractmethod
    async def do(self, who: Client | Raw, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine of a client's, on its own host, and brings the result back."""

    @abstractmethod
    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A verb that goes on while the scenario does something else; await it to get its result."""

    @abstractmethod
    async def peek(
        self,
        instance: str,
        door: str,
        payload: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        timeout: float,
        by: str = "driver",
    ) -> tuple[int, Any]:
        """Asks at a door without a word in the history. Raises as ``sim.targets.knock.knock``."""

    # Verbs

    async def connect(
        self, name: str, user: str | None, at: str, *, transport: str = "websocket", **auth: Any
    ) -> Client:
        """A new tab of a user on an instance; None is a stranger without a token."""
        client = self.client(name)
        await self.connect_again(client, user, at, transport=transport, **auth)
        return client

    async def connect_raw(self, raw: Raw, user: str, at: str, *, transport: str = "websocket") -> bool:
        if not self.does(raw, "connect"):
            return False
        host, port = self.place(raw, at)
        auth = {"token": self.token(user)}
        return await self.do(raw, raw.client.connect(host, port, auth, transport=transport, known_as=at))

    async def connect_again(
        self,
        client: Client,
        user: str | None,
        at: str,
        *,
        transport: str = "websocket",
        reconnection: bool = False,
        **auth: Any,
    ) -> bool:
        """``reconnection``: it comes back by itself whenever the connection is lost."""
        if not self.does(client, "connect"):
            return False
        if user is not None:
            auth = {**auth, "token": self.token(user)}
        connecting = client.connect(at, auth or None, transport=transport, reconnection=reconnection)
        return await self.do(client, connecting)

    async def connect_with(self, client: Client, token: str, at: str) -> bool:
        """With a token of one's own."""
        if not self.does(client, "connect"):
            return False
        return await self.do(client, client.connect(at, {"token": token}))

    async def emit(self, client: Client, event: str, data: Any = None) -> None:
        if self.does(client, "emit"):
            await self.do(client, client.emit(event, data))

    async def call(self, client: Client, event: str, data: Any = None) -> Any:
        if not self.does(client, "call"):
            return None
        return await self.do(client, client.call(event, data))

    async def knock(
        self, instance: str, door: str, payload: dict[str, Any] | None = None, **query: str
    ) -> tuple[int, Any]:
        """Status and answer of one of an instance's doors, asked by another module of the backend: its own host.

        Status 0 when the instance is not there, or ends meanwhile. In the history ``backend`` emits to the door and
        is acked, both with ``{"number", …}`` of the knock.
        """
        self._knocks += 1
        number = self._knocks
        asked = {"number": number, "at": instance, "payload": payload if payload is not None else query}
        self.history.add(self.now, "backend", "emit", door, asked)
        try:
            status, answer = await self.peek(
                instance, door, payload, query or None, timeout=120.0, by="backend"
            )
        except (OSError, TimeoutError) as error:
            status, answer = 0, {"error": "unreachable", "message": repr(error)}
        answered = {"number": number, "status": status, "answer": answer}
        self.history.add(self.now, "backend", "ack", door, answered)
        return status, answer

    async def close(self, client: Client) -> None:
        if self.does(client, "close"):
            await self.do(client, client.close())

    async def until_time(self, when: float) -> None:
        """Sleeps until a time of the lab's clock."""
        await asyncio.sleep(max(0.0, when - self.now))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, true: Callable[[], object], within: float, what: str) -> None:
        """Waits for a condition; raises ``SimulatorError`` after ``within`` seconds."""
        deadline = self.now + within
        while not true():
            if self.now >= deadline:
                raise SimulatorError(f"waited {within:g} seconds in vain for {what}")
            await asyncio.sleep(POLL_SECONDS)

    async def together(self, *work: Awaitable[Any]) -> list[Any]:
        """Several verbs at once; their results."""
        return list(await asyncio.gather(*work))

    def reach(self, what: str) -> None:
        """Says that the run has got to what makes it mean something."""
        self.reached[what] = self.reached.get(what, 0) + 1

    def token(self, user: str, *, lifetime: float = 3600.0) -> str:
        now = self.wall_time()
        claims = {
            "id": user,
            "iat": int(now),
            "exp": now + lifetime,
            "jti": f"{user}-{len(self.history.entries)}",
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def does(self, who: Client | Raw | str, verb: str) -> bool:
        """Numbers an action or a fault of the scenario; whether it is to be done."""
        what = f"{who if isinstance(who, str) else who.name} {verb}"
        self._counted[what] += 1
        name = f"{what} #{self._counted[what]}"
        if name in self._skips:
            return False
        self.actions.append(name)
        return True

    def _note(self, entry: Entry) -> None:
        """Called with each entry of the history."""
