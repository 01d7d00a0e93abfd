"""What the rest of a backend does during a load run: streams answers into users' tabs, and asks their browsers."""

from __future__ import annotations

import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EVERY_SECONDS = 0.5
USERS = 5
"""How many users get a piece of an answer, and are asked, each time."""
TIMEOUT_SECONDS = 5.0


@dataclass(slots=True)
class Backend:
    """Goes through the instances' doors (`sim/targets/doors.py`) until `over` is set."""

    urls: Sequence[str]
    over: threading.Event
    emitted: int = 0
    answered: int = 0
    unanswered: int = 0
    """Calls to users who had just left, or whose instance is gone."""

    def run(self) -> None:
        while not self.over.wait(EVERY_SECONDS):
            url = random.choice(self.urls)
            try:
                sids: dict[str, list[str]] = self._ask(url, "pools")["users"]
            except OSError:
                continue
            for user in random.sample(list(sids), min(USERS, len(sids))):
                self._emit(url, user)
                self._call(url, user, sids[user][0])

    def line(self) -> str:
        return (
            f"backend: {self.emitted} events emitted, {self.answered} calls answered, {self.unanswered} not"
        )

    def _emit(self, url: str, user: str) -> None:
        event = {"type": "message", "data": {"content": "word "}}
        try:
            self._ask(url, "emit", {"request_info": _info(user), "event": event})
        except OSError:
            return
        self.emitted += 1

    def _call(self, url: str, user: str, sid: str) -> None:
        info = _info(user) | {"session_id": sid}
        try:
            answer = self._ask(url, "call", {"request_info": info, "event": {"type": "confirmation"}})
        except OSError:
            self.unanswered += 1
            return
        if answer == {"answer": user}:
            self.answered += 1
        else:
            self.unanswered += 1

    def _ask(self, url: str, door: str, body: dict[str, Any] | None = None) -> Any:
        """Raises `OSError`, refusals and time-outs among them."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{url}/lab/{door}", data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return json.load(response)["result"]


def _info(user: str) -> dict[str, str]:
    return {"user_id": user, "chat_id": "load", "message_id": "load"}
