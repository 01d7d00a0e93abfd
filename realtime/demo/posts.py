"""What was said in the demo's chats: a log of posts in the message store, which itself knows single messages only.

A chat's log is one message of the store, a line of JSON for each post. Appending to it is atomic, so posts of several
instances never overwrite each other; a post that is sent twice stands there twice and is read once. The text of an
answer that is streamed is not in the log: the event emitter keeps it, as a message of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from realtime.errors import LimitExceeded
from realtime.messages import MessageStore

LOG = "posts"
SHOWN = 100
LONGEST_LOG = 500_000
"""Characters; a chat is read whole, so it has to end somewhere."""

Kind = Literal["person", "assistant"]


@dataclass(frozen=True, slots=True)
class Post:
    """``at``: unix seconds. Without ``text``, that is kept under the post's id as it is streamed."""

    id: str
    kind: Kind
    author: str
    text: str | None
    at: float


def new_post(post_id: str, author: str, text: str | None, *, kind: Kind = "person") -> Post:
    return Post(post_id, kind, author, text, round(time.time(), 3))


class Posts:
    """The logs of all chats in one store."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    async def add(self, chat: str, post: Post) -> None:
        """Raises ``LimitExceeded`` when the chat is full, and as the store does."""
        log = await self._store.read(chat, LOG)
        if log is not None and len(log.text) > LONGEST_LOG:
            raise LimitExceeded("this chat of the demo is full: stop the demo and remove its database")
        await self._store.append(chat, LOG, json.dumps(asdict(post)) + "\n")

    async def latest(self, chat: str) -> list[dict[str, Any]]:
        """The last posts, oldest first: ``{"id", "kind", "author", "text", "at", "done"}``."""
        log = await self._store.read(chat, LOG)
        if log is None:
            return []
        once: dict[str, Post] = {}
        for line in log.text.splitlines():
            post = Post(**json.loads(line))
            once.setdefault(post.id, post)
        return [await self._whole(chat, post) for post in list(once.values())[-SHOWN:]]

    async def _whole(self, chat: str, post: Post) -> dict[str, Any]:
        if post.text is not None:
            return asdict(post) | {"done": True}
        kept = await self._store.read(chat, post.id)
        text, statuses = (kept.text, kept.statuses) if kept is not None else ("", ())
        return asdict(post) | {"text": text, "done": any(status.get("done") for status in statuses)}
