"""Doors to a target's functions for other backend modules: JSON over HTTP under ``/lab/``, the same on every target.

They trust whoever reaches them. An answer is ``{"result"}``, or 409 with ``{"error": code, "message"}`` for an error
that the target means to give; any other error is a 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Refusal = Callable[[Exception], tuple[str, str] | None]
"""Code and message of an error that the target means to give; None for any other."""


class Backend(Protocol):
    """What a target offers to other backend modules.

    ``request_info``: ``{"user_id", "session_id"?, "chat_id"?, "message_id"?}``.
    """

    async def emit(self, request_info: Mapping[str, Any], event: Any) -> None:
        """What a chat module does for each piece of an answer."""

    async def call(self, request_info: Mapping[str, Any], event: Any) -> Any:
        """The one session's own answer."""

    async def enter(self, room: str, user_ids: list[str]) -> None:
        """All sessions of these users enter the room."""

    async def tell(self, event: str, data: Any, room: str | None, user_ids: list[str] | None) -> None:
        """To users, to a room, or to everyone."""

    async def room(self, name: str) -> list[str]:
        """Users in a room."""

    async def models(self) -> list[str]:
        """Models in use."""

    async def lock(self) -> dict[str, Any]:
        """``{"held": bool, "fence": int | None}``: whether this instance takes itself for the one that cleans up, and
        the fencing token under which it does; a lock without one has None."""

    async def message(self, chat_id: str, message_id: str) -> str | None:
        """What emitters have kept of a message."""

    async def waiting(self) -> int:
        """Event calls that this instance keeps something of."""

    async def pools(self) -> dict[str, Any]:
        """``{"sessions": {sid: user}, "users": {user_id: [sid, …]}, "usage": {model: …}}``."""


def open_doors(app: Starlette, backend: Backend, refusal: Refusal) -> None:
    """Adds ``/lab/…`` to an application. Plain routes: FastAPI takes milliseconds to make one of its own."""

    def door(name: str, ask: Callable[[dict[str, Any]], Awaitable[Any]], method: str) -> None:
        async def answer(request: Request) -> JSONResponse:
            given = await request.json() if method == "POST" else dict(request.query_params)
            try:
                return JSONResponse({"result": await ask(given)})
            except Exception as error:
                refused = refusal(error)
                if refused is None:
                    raise
                return JSONResponse({"error": refused[0], "message": refused[1]}, status_code=409)

        app.router.routes.append(Route(f"/lab/{name}", answer, methods=[method]))

    door("emit", lambda given: backend.emit(given["request_info"], given["event"]), "POST")
    door("call", lambda given: backend.call(given["request_info"], given["event"]), "POST")
    door("enter", lambda given: backend.enter(given["room"], given["user_ids"]), "POST")
    door(
        "tell",
        lambda given: backend.tell(given["event"], given["data"], given.get("room"), given.get("user_ids")),
        "POST",
    )
    door("room", lambda given: backend.room(given["name"]), "GET")
    door("models", lambda _given: backend.models(), "GET")
    door("message", lambda given: backend.message(given["chat_id"], given["message_id"]), "GET")
    door("waiting", lambda _given: backend.waiting(), "GET")
    door("lock", lambda _given: backend.lock(), "GET")
    door("pools", lambda _given: backend.pools(), "GET")
