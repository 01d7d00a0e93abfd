"""A process full of users who call as fast as they can: `raw` or `locust`, URL, transport, users, seconds."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # Locust's client needs it; ours gets the same surroundings.

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import jwt  # noqa: E402
from locust.contrib.socketio import SocketIOClient  # noqa: E402
from locust.env import Environment  # noqa: E402

from loadtests._client import Client  # noqa: E402
from loadtests._http import parse_target  # noqa: E402

PATH = "ws/socket.io"
Call = Callable[[], Any]


def token(number: int) -> str:
    claims = {"id": f"user-{number}", "iat": time.time()}
    return jwt.encode(claims, os.environ["WEBUI_SECRET_KEY"], algorithm="HS256")


def raw(url: str, transport: str, number: int, environment: Environment) -> Call:
    client = Client(parse_target(url), transport, {})
    client.open()
    client.join({"token": token(number)})

    def call() -> None:
        # As the chat user does: one measured request for each ack.
        with environment.events.request.measure(transport, "usage"):
            answer = client.call("usage", {"model": "model"})
        assert answer is None, answer

    return call


def locust(url: str, transport: str, number: int, environment: Environment) -> Call:
    client = SocketIOClient(environment.events.request, reconnection=False)
    client.connect(url, socketio_path=PATH, transports=[transport], auth={"token": token(number)})
    gevent.spawn(client.wait)

    def call() -> None:
        answer = client.call("usage", {"model": "model"})
        assert answer is None, answer

    return call


def main() -> None:
    kind, url, transport, users, seconds = sys.argv[1:]
    environment = Environment()
    make = raw if kind == "raw" else locust
    calls = [make(url, transport, number, environment) for number in range(int(users))]
    for call in calls:
        call()
    gevent.sleep(0.5)
    acks = 0
    end = time.perf_counter() + float(seconds)

    def work(call: Call) -> None:
        nonlocal acks
        while time.perf_counter() < end:
            call()
            acks += 1

    used = time.process_time()
    gevent.joinall([gevent.spawn(work, call) for call in calls], raise_error=True)
    print(json.dumps({"acks": acks, "cpu": time.process_time() - used}), flush=True)
    os._exit(0)  # Locust's clients would say good-bye one after the other.


if __name__ == "__main__":
    main()
