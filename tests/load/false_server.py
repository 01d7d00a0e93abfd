"""A Socket.IO server that treats its clients badly on purpose, as a program.

Stock python-socketio with the events that load users send. `lose`, `double` and `reorder` do so to every fifth message,
`stall` stands still for `STALL_SECONDS` once, `refuse` asks the first `REFUSALS` connects to try again later, `full`
all while `ROOM` are connected. Besides: `echo` and `ask` (an event with an ack, bytes welcome), `kick`, and nobody is
let in whose auth is "nobody".
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import socketio
import uvicorn
from socketio import exceptions

FAULTS = ("none", "lose", "double", "reorder", "stall", "refuse", "full")
REFUSALS = 3
ROOM = 3
STALL_AFTER_SECONDS = 2.0
STALL_SECONDS = 2.0


def make_app(fault: str) -> socketio.ASGIApp:
    sio = socketio.AsyncServer(async_mode="asgi", ping_interval=0.5, ping_timeout=5)
    sent = 0
    held: list[Any] = []
    first_typing = 0.0
    stalled = False
    connects = connected = 0

    @sio.event
    async def connect(sid: str, _environ: Any, auth: Any) -> None:
        nonlocal connects, connected
        connects += 1
        if (fault == "refuse" and connects <= REFUSALS) or (fault == "full" and connected == ROOM):
            raise exceptions.ConnectionRefusedError("try again in a moment", {"code": "unavailable"})
        if auth == "nobody":
            raise exceptions.ConnectionRefusedError("go away", "in words")
        connected += 1
        await sio.enter_room(sid, "general")
        await sio.emit("user-list", {"user_ids": []}, to=sid)

    @sio.event
    async def disconnect(_sid: str) -> None:
        nonlocal connected
        connected -= 1

    @sio.on("user-join")
    async def user_join(_sid: str, _data: Any) -> dict[str, str]:
        return {"id": "user", "name": "User"}

    @sio.on("join-channels")
    async def join_channels(_sid: str, _data: Any) -> dict[str, list[str]]:
        return {"channels": ["general"]}

    @sio.on("usage")
    async def usage(_sid: str, _data: Any) -> None:
        return None

    @sio.on("channel-events")
    async def channel_events(_sid: str, data: Any) -> None:
        nonlocal sent, first_typing, stalled
        sent += 1
        first_typing = first_typing or time.monotonic()
        if fault == "stall" and not stalled and time.monotonic() - first_typing > STALL_AFTER_SECONDS:
            stalled = True
            time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - a server that stands still is what is wanted
        odd = sent % 5 == 0
        if odd and fault == "lose":
            return
        if odd and fault == "reorder":
            held.append(data)
            return
        for _ in range(2 if odd and fault == "double" else 1):
            await sio.emit("channel-events", data, room="general")
        # The one held goes out after the next of the same sender, which alone makes it out of order.
        for each in [each for each in held if each["data"]["load"][0] == data["data"]["load"][0]]:
            held.remove(each)
            await sio.emit("channel-events", each, room="general")

    @sio.on("echo")
    async def echo(_sid: str, data: Any) -> Any:
        return data

    @sio.on("ask")
    async def ask(sid: str, data: Any) -> Any:
        answers: asyncio.Queue[Any] = asyncio.Queue()
        await sio.emit("question", data, to=sid, callback=lambda *answer: answers.put_nowait(answer))

        async def later() -> None:
            await sio.emit("answered", (await answers.get())[0], to=sid)

        sio.start_background_task(later)

    @sio.on("kick")
    async def kick(sid: str, _data: Any) -> None:
        await sio.emit("closing", {"code": 4004, "reason": "kicked"}, to=sid)
        await sio.disconnect(sid)

    return socketio.ASGIApp(sio, socketio_path="/ws/socket.io")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    options = parser.parse_args()
    uvicorn.run(make_app(options.fault), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
