"""The user classes that Locust finds. Plain `locust -f loadtests/` takes all of them in these weights."""

from __future__ import annotations

from loadtests import _chat, _lab

_lab.wire()


class WebsocketUser(_chat.ChatUser):
    """By websocket from the start."""

    weight = 2


class PollingUser(_chat.ChatUser):
    """By long-polling, always."""

    transports = ("polling",)


class UpgradeUser(_chat.ChatUser):
    """By long-polling, then websocket, as browsers do by default."""

    transports = ("upgrade",)


class MixedUser(_chat.ChatUser):
    """Another way at each connect, in the shares of a usual public."""

    transports = ("websocket",) * 2 + ("upgrade",) * 7 + ("polling",)
