"""The Socket.IO server and its event handlers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt
import socketio

from sim.targets import Context
from sim.targets.directory import Directory
from sim.targets.naive.pools import RedisDict, RedisLock

log = logging.getLogger(__name__)

USAGE_SECONDS = 3
CALL_SECONDS = 60
LOCK_SECONDS = 60


class NaiveLayer:
    """One instance of it."""

    def __init__(self, context: Context) -> None:
        url = context.redis_url
        settings = context.settings
        self.secret = context.secret
        self.directory = Directory(*context.database)
        self.call_seconds = float(settings.get("websocket_event_caller_timeout", CALL_SECONDS))
        self.SESSION_POOL = RedisDict("open-webui:session_pool", url)
        self.USER_POOL = RedisDict("open-webui:user_pool", url)
        self.USAGE_POOL = RedisDict("open-webui:usage_pool", url)
        lock_seconds = int(settings.get("websocket_redis_lock_timeout", LOCK_SECONDS))
        self.lock = RedisLock("open-webui:usage_cleanup_lock", url, lock_seconds)
        make: Any = socketio.AsyncServer
        self.cleaning = False
        self.sio = make(
            async_mode="asgi",
            client_manager=socketio.AsyncRedisManager(url),
            always_connect=True,
            cors_allowed_origins=[],
        )
        for event, handler in {
            "connect": self.connect,
            "disconnect": self.disconnect,
            "user-join": self.user_join,
            "join-channels": self.join_channels,
            "channel-events": self.channel_events,
            "usage": self.usage,
            "user-list": self.user_list,
        }.items():
            self.sio.on(event, handler)

    # Who is there

    async def connect(self, sid: str, _environ: Any, auth: Any = None) -> None:
        user = await self.authenticate({"auth": auth})
        if user is not None:
            await self.register(sid, user)

    async def user_join(self, sid: str, data: Any) -> Any:
        user = await self.authenticate(data)
        if user is None:
            return None
        await self.register(sid, user)
        return {"id": user["id"], "name": user["name"]}

    async def authenticate(self, data: Any) -> dict[str, Any] | None:
        auth = data.get("auth") or {}
        try:
            claims = jwt.decode(auth.get("token", ""), self.secret, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            return None
        return await self.directory.login(claims["id"])

    async def register(self, sid: str, user: dict[str, Any]) -> None:
        self.SESSION_POOL[sid] = user
        if user["id"] in self.USER_POOL:
            self.USER_POOL[user["id"]] = [*self.USER_POOL[user["id"]], sid]
        else:
            self.USER_POOL[user["id"]] = [sid]
        for channel in user["channels"]:
            await self.sio.enter_room(sid, f"channel:{channel}")
        await self.send_user_list()
        await self.send_usage()

    async def disconnect(self, sid: str, _reason: str = "") -> None:
        if sid not in self.SESSION_POOL:
            return
        user = self.SESSION_POOL[sid]
        del self.SESSION_POOL[sid]
        sids = [each for each in self.USER_POOL[user["id"]] if each != sid]
        if sids:
            self.USER_POOL[user["id"]] = sids
        else:
            del self.USER_POOL[user["id"]]
        for model, sessions in self.USAGE_POOL.items():
            if sid in sessions:
                del sessions[sid]
                if sessions:
                    self.USAGE_POOL[model] = sessions
                else:
                    del self.USAGE_POOL[model]
        await self.send_user_list()
        await self.send_usage()

    async def user_list(self, _sid: str, _data: Any = None) -> None:
        await self.send_user_list()

    async def send_user_list(self) -> None:
        await self.sio.emit("user-list", {"user_ids": self.USER_POOL.keys()})

    # Channels

    async def join_channels(self, sid: str, data: Any) -> Any:
        user = await self.authenticate(data)
        if user is None:
            return None
        for channel in user["channels"]:
            await self.sio.enter_room(sid, f"channel:{channel}")
        return {"channels": user["channels"]}

    async def channel_events(self, sid: str, data: Any) -> None:
        room = f"channel:{data['channel_id']}"
        if sid not in self.sids_in(room):
            return
        if data["data"]["type"] == "typing":
            user = {key: value for key, value in self.SESSION_POOL[sid].items() if key != "channels"}
            await self.sio.emit("channel-events", {**data, "user": user}, room=room)

    def sids_in(self, room: str) -> list[str]:
        return [sid for sid, _eio_sid in self.sio.manager.get_participants("/", room)]

    def user_ids_in(self, room: str) -> list[str]:
        sessions = [self.SESSION_POOL.get(sid) for sid in self.sids_in(room)]
        return sorted({session["id"] for session in sessions if session})

    # Models in use

    async def usage(self, sid: str, data: Any) -> None:
        model = data["model"]
        sessions = self.USAGE_POOL.get(model, {})
        sessions[sid] = {"updated_at": int(time.time())}
        self.USAGE_POOL[model] = sessions
        await self.send_usage()

    async def send_usage(self) -> None:
        await self.sio.emit("usage", {"models": self.USAGE_POOL.keys()})

    async def periodic_usage_pool_cleanup(self) -> None:
        if not self.lock.acquire():
            log.debug("another instance cleans the usage pool")
            return
        self.cleaning = True
        try:
            while True:
                if not self.lock.renew():
                    raise RuntimeError("the lock of the usage cleanup is lost")
                now = int(time.time())
                cleaned = False
                for model, sessions in self.USAGE_POOL.items():
                    fresh = {
                        sid: used
                        for sid, used in sessions.items()
                        if now - used["updated_at"] <= USAGE_SECONDS
                    }
                    if fresh == sessions:
                        continue
                    cleaned = True
                    if fresh:
                        self.USAGE_POOL[model] = fresh
                    else:
                        del self.USAGE_POOL[model]
                if cleaned:
                    await self.send_usage()
                await asyncio.sleep(USAGE_SECONDS)
        finally:
            self.cleaning = False
            self.lock.release()

    # For other backend modules

    def get_event_emitter(self, request_info: Mapping[str, Any]) -> Callable[[Any], Awaitable[None]]:
        async def emit(event: Any) -> None:
            sids = self.USER_POOL.get(request_info["user_id"], [])
            if request_info.get("session_id"):
                sids = [*sids, request_info["session_id"]]
            for sid in dict.fromkeys(sids):
                await self.sio.emit("chat-events", self.chat_event(request_info, event), to=sid)

        return emit

    def get_event_call(self, request_info: Mapping[str, Any]) -> Callable[[Any], Awaitable[Any]]:
        async def call(event: Any) -> Any:
            return await self.sio.call(
                "chat-events",
                self.chat_event(request_info, event),
                to=request_info["session_id"],
                timeout=self.call_seconds,
            )

        return call

    def chat_event(self, request_info: Mapping[str, Any], event: Any) -> dict[str, Any]:
        return {
            "chat_id": request_info.get("chat_id"),
            "message_id": request_info.get("message_id"),
            "data": event,
        }
