"""Doors to a target's functions for other backend modules: JSON over HTTP under ``/lab/``, the same on every target.

They trust whoever reaches them. An answer is ``{"result"}``, or 409 with ``{"error": code, "message"}`` for an error
that the target means to give; any other error is a 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Protocol

from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

Json = Annotated[dict[str, Any], Body()]

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

    async def message(self, chat_id: str, message_id: str) -> str | None:
        """What emitters have kept of a message."""

    async def pools(self) -> dict[str, Any]:
        """``{"sessions": {sid: user}, "users": {user_id: [sid, …]}, "usage": {model: …}}``."""


def open_doors(app: FastAPI, backend: Backend, refusal: Refusal) -> None:
    """Adds ``/lab/…`` to an application."""

    async def answer(work: Awaitable[Any]) -> JSONResponse:
        try:
            return JSONResponse({"result": await work})
        except Exception as error:
            refused = refusal(error)
            if refused is None:
                raise
            return JSONResponse({"error": refused[0], "message": refused[1]}, status_code=409)

    @app.post("/lab/emit")
    async def emit(request: Json) -> JSONResponse:
        return await answer(backend.emit(request["request_info"], request["event"]))

    @app.post("/lab/call")
    async def call(request: Json) -> JSONResponse:
        return await answer(backend.call(request["request_info"], request["event"]))

    @app.post("/lab/enter")
    async def enter(request: Json) -> JSONResponse:
        return await answer(backend.enter(request["room"], request["user_ids"]))

    @app.post("/lab/tell")
    async def tell(request: Json) -> JSONResponse:
        work = backend.tell(request["event"], request["data"], request.get("room"), request.get("user_ids"))
        return await answer(work)

    @app.get("/lab/room")
    async def room(name: str) -> JSONResponse:
        return await answer(backend.room(name))

    @app.get("/lab/models")
    async def models() -> JSONResponse:
        return await answer(backend.models())

    @app.get("/lab/message")
    async def message(chat_id: str, message_id: str) -> JSONResponse:
        return await answer(backend.message(chat_id, message_id))

    @app.get("/lab/pools")
    async def pools() -> JSONResponse:
        return await answer(backend.pools())
