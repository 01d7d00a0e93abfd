"""The demo's page and the requests behind it. Only `create_app` with `--demo` mounts them, on this machine only."""

from __future__ import annotations

import logging
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from realtime.auth import create_token, decode_token
from realtime.demo.assistant import Assistant, Question
from realtime.demo.fetch import BUNDLE, COMMAND
from realtime.demo.posts import Post, Posts, new_post
from realtime.directory.memory import DEMO_CHANNEL
from realtime.directory.sql import SqlDirectory
from realtime.errors import (
    DirectoryUnavailable,
    Forbidden,
    InvalidPayload,
    InvalidToken,
    LimitExceeded,
    RealtimeError,
)
from realtime.ids import check_id, check_text
from realtime.server import RealtimeServer

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
CHANNELS = (DEMO_CHANNEL, "ideas")
ASSISTANT = "assistant"
TOKEN_SECONDS = 12 * 3600.0
MAX_NAME = 40
MAX_TEXT = 4000

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_STATUS: dict[type[RealtimeError], int] = {
    InvalidToken: 401,
    Forbidden: 403,
    InvalidPayload: 400,
    LimitExceeded: 429,
    DirectoryUnavailable: 503,
}
_FILES = {path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".svg")} | {BUNDLE.name}


class Name(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=MAX_NAME)


class NewPost(BaseModel):
    """`id` is the page's own, so that a request which is sent again adds nothing. `session_id`: for the assistant."""

    model_config = ConfigDict(hide_input_in_errors=True)

    chat: str
    id: str = Field(pattern=r"^[0-9a-f-]{16,64}$")
    text: str = Field(min_length=1, max_length=MAX_TEXT)
    session_id: str = ""


Authorization = Annotated[str, Header()]


def mount_demo(app: FastAPI, server: RealtimeServer, directory: SqlDirectory) -> None:
    """Adds the page and its requests to an application that is a demo."""
    if not BUNDLE.exists():
        log.warning("the demo's page lacks the Socket.IO client; this brings it from npm: %s", COMMAND)
    demo = Demo(server, directory)
    app.include_router(demo.router)
    app.add_exception_handler(RealtimeError, _explain)

    # As an application adds events of its own.
    server.wire.on("demo-instance", demo.instance)


class Demo:
    """The requests of one instance's page."""

    def __init__(self, server: RealtimeServer, directory: SqlDirectory) -> None:
        self._server = server
        self._directory = directory
        self._posts = Posts(server.messages)
        self._assistant = Assistant(server, self._posts, self._share)
        self.router = APIRouter()
        self.router.add_api_route("/", self.page)
        self.router.add_api_route("/demo/{name}", self.file)
        self.router.add_api_route("/demo/sign-in", self.sign_in, methods=["POST"])
        self.router.add_api_route("/demo/chats/posts", self.posts)
        self.router.add_api_route("/demo/chats/posts", self.add_post, methods=["POST"])

    async def page(self) -> Response:
        """The page; without the client that it needs, one that says how to get it."""
        name = "page.html" if BUNDLE.exists() else "missing.html"
        return FileResponse(PAGE / name, headers=_HEADERS)

    async def file(self, name: str) -> Response:
        if name not in _FILES or not (PAGE / name).exists():
            return Response(status_code=404)
        return FileResponse(PAGE / name, headers=_HEADERS)

    async def sign_in(self, body: Name) -> dict[str, Any]:
        """``{"name"}`` → ``{"token", "user", "channels"}``. Whoever is asked for exists from here on."""
        user_id = check_id(" ".join(body.name.split()), what="name", max_length=MAX_NAME)
        found = await self._directory.login(user_id)
        for channel in CHANNELS:
            if found is None or channel not in found[1]:
                await self._directory.add_member(channel, user_id)
        token = create_token(user_id, self._server.settings.secret_key, expires_in=TOKEN_SECONDS)
        return {"token": token, "user": {"id": user_id}, "channels": CHANNELS}

    async def posts(self, chat: str, authorization: Authorization = "") -> dict[str, Any]:
        """``?chat=CHANNEL`` or ``?chat=assistant`` → ``{"posts"}``: the latest, oldest first."""
        user_id = self._user(authorization)
        return {"posts": await self._posts.latest(await self._chat(chat, user_id))}

    async def add_post(self, body: NewPost, authorization: Authorization = "") -> dict[str, Any]:
        """Keeps a post and tells the channel's members, or the user's own tabs and the assistant. Returns ``{"post"}``:
        as it is kept, which is the first of that id."""
        user_id = self._user(authorization)
        chat = await self._chat(body.chat, user_id)
        post = new_post(body.id, user_id, check_text(body.text, what="text"))
        if body.chat != ASSISTANT:
            return {"post": await self._publish(chat, post)}
        check_id(body.session_id, what="session_id")
        if self._assistant.check_free(user_id, post.id):
            post = await self._posts.add(chat, post)
            emit = self._server.get_event_emitter(
                {"user_id": user_id, "chat_id": chat, "message_id": post.id}
            )
            await emit({"type": "post", "data": _whole(post)})
            self._assistant.ask(Question(post.id, user_id, body.session_id, chat, body.text))
        return {"post": _whole(post)}

    async def instance(self, _sid: str, *_args: Any) -> dict[str, str]:
        """Which instance the socket that asks is connected to."""
        return {"instance": self._server.settings.realtime_instance_name}

    async def _share(self, author: str, text: str) -> None:
        post_id = f"shared-{secrets.token_hex(8)}"
        await self._publish(DEMO_CHANNEL, new_post(post_id, author, text, kind="assistant"))

    async def _publish(self, channel: str, post: Post) -> dict[str, Any]:
        whole = _whole(await self._posts.add(channel, post))
        payload = {"channel_id": channel, "message_id": post.id, "data": {"type": "post", "data": whole}}
        await self._server.wire.emit("channel-events", payload, room=f"channel:{channel}")
        return whole

    def _user(self, authorization: str) -> str:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidToken("Sign in first.")
        return decode_token(token, self._server.settings.secret_key, now=self._server.clock.time()).user_id

    async def _chat(self, chat: str, user_id: str) -> str:
        if chat == ASSISTANT:
            return f"{ASSISTANT}:{user_id}"
        if chat not in await self._directory.channels(user_id):
            raise Forbidden(f"not a member of the channel {chat}")
        return chat


def _whole(post: Post) -> dict[str, Any]:
    return asdict(post) | {"done": True}


async def _explain(_request: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    told = {"error": {"code": getattr(error, "code", "internal"), "message": str(error)}}
    return JSONResponse(told, status_code=status)
