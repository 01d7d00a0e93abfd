"""The factory, and a server that is made when the module is imported."""

from typing import Any

import redis
import socketio

from global_app import state

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[])
instance = {"name": "", "redis": None}


@sio.event
async def connect(sid: str, _environ: Any, _auth: Any = None) -> None:
    import global_app.late as late

    state.counter += 1
    late.seen.append(sid)
    client: Any = instance["redis"]
    total = client.incr("connects")
    await sio.emit(
        "state",
        {
            "name": instance["name"],
            "started": state.started,
            "here": state.counter,
            "late": len(late.seen),
            "total": total,
            "at": state.stamp(),
        },
        to=sid,
    )


def make(context: Any) -> socketio.ASGIApp:
    state.started.append(context.name)
    instance.update(name=context.name, redis=redis.Redis.from_url(context.redis_url))
    return socketio.ASGIApp(sio, socketio_path="/ws/socket.io")


not_a_factory = 3
