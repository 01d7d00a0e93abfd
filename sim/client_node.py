"""Client hosts of the simulated world: each client on a node of its own."""

from __future__ import annotations

import aiohttp

from sim.client import Client, Raw, forget_clients
from sim.history import History
from sim.instance_node import PORT
from sim.network import Network
from sim.node import Node
from sim.world import World


class ClientNode(Client):
    """One tab of one user. Its coroutines run on its own node: the lab calls them from the scenario's."""

    def __init__(self, world: World, network: Network, history: History, name: str) -> None:
        super().__init__(
            name, lambda what, event, data: history.add(world.now, name, what, event, data), _dial
        )
        self.node = Node(world, network, name)
        world.on_close(self._forget)

    def _forget(self) -> None:
        forget_clients()
        if self._http is not None:
            self._http.detach()


class RawNode(Raw):
    """A host whose client keeps only the rules that it is told to keep."""

    def __init__(self, world: World, network: Network, history: History, name: str) -> None:
        super().__init__(name, lambda what, event, data: history.add(world.now, name, what, event, data))
        self.node = Node(world, network, name)


def _dial(instance: str) -> tuple[aiohttp.BaseConnector, str]:
    return aiohttp.UnixConnector(path=f"{instance}:{PORT}"), f"http://{instance}"
