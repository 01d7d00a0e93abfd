"""What the simulator runs: ``realtime``, ``naive``, or anyone's ``module:factory``.

A factory is called as ``factory(context)`` once for every instance and returns an ASGI application that serves
``/ws/socket.io``. Clients authenticate with a JWT ``{"id": user}`` signed with ``context.secret``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from sim.errors import SimulatorError

SECRET = "signs-the-tokens-of-simulated-users-and-nothing-else"
CHANNEL = "general"
"""Every user of a simulated world is a member of this channel."""

BUILT_IN = {"realtime": "sim.targets.realtime:make_app", "naive": "sim.targets.naive:make_app"}


@dataclass(frozen=True, slots=True)
class Context:
    """What an instance is told when it is made. ``database``: host and port of the simulated user directory."""

    name: str
    redis_url: str
    database: tuple[str, int]
    secret: str = SECRET
    settings: Mapping[str, Any] = field(default_factory=dict)


AsgiApp = Callable[..., Any]
Factory = Callable[[Context], AsgiApp]


class UnknownTarget(SimulatorError):
    """There is no such target; the text says what a target is."""


def load(target: str) -> Factory:
    """The factory of a target's name. Raises ``UnknownTarget``.

    An application's own modules are imported anew for each instance: what is global in them belongs to a process.
    """
    module_name, colon, attribute = BUILT_IN.get(target, target).partition(":")
    if not colon or not module_name or not attribute:
        raise UnknownTarget(f"no target {target!r}: give {', '.join(BUILT_IN)} or MODULE:FACTORY")
    try:
        factory: Factory = _factory(importlib.import_module(module_name), attribute)
    except Exception as error:  # an application's import may fail in any way
        raise UnknownTarget(
            f"the target {target!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return factory if target in BUILT_IN else _isolated(module_name, attribute)


def websocket_protocol(app: AsgiApp) -> Any:
    """The protocol class of uvicorn's that an application is to be served with: its ``state.websocket_protocol``."""
    return getattr(getattr(app, "state", None), "websocket_protocol", "websockets-sansio")


def _isolated(module_name: str, attribute: str) -> Factory:
    from sim.isolation import Application
    from sim.ownership import current_node

    application = Application(module_name)

    def make(context: Context) -> AsgiApp:
        node = current_node()
        if node is None:
            return _factory(importlib.import_module(module_name), attribute)(context)
        return _factory(application.load(node), attribute)(context)

    return make


def _factory(module: ModuleType, attribute: str) -> Factory:
    found: Any = module
    for name in attribute.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(
            f"{attribute} is a {type(found).__name__}, not a factory that is called with a context"
        )
    factory: Factory = found
    return factory
