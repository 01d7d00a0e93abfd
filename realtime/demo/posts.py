"""What was said in the demo's chats: a log of posts in the message store, which itself knows single messages only.

A chat's log is one message of the store, a line of JSON for each post. Appending to it is atomic, so posts of several
instances never overwrite each other; of two with one id, sent at the same time, the first is read. The text of an
answer that is streamed is not in the log: the event emitter keeps it, as a message of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
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

    async def add(self, chat: str, post: Post) -> Post:
        """Returns what is kept under the post's id: this, unless there is one already. Raises ``LimitExceeded`` when
        the chat is full, and as the store does."""
        log = await self._log(chat)
        if json.dumps(post.id) in log:
            for kept in _posts_in(log):
                if kept.id == post.id:
                    return kept
        if len(log) > LONGEST_LOG:
            raise LimitExceeded("this chat of the demo is full: stop the demo and remove its database")
        await self._store.append(chat, LOG, json.dumps(asdict(post)) + "\n")
        return post

    async def latest(self, chat: str) -> list[dict[str, Any]]:
        """The last posts, oldest first: ``{"id", "kind", "author", "text", "at", "done"}``."""
        once: dict[str, Post] = {}
        for post in _posts_in(await self._log(chat)):
            once.setdefault(post.id, post)
        return [await self._whole(chat, post) for post in list(once.values())[-SHOWN:]]

    async def _log(self, chat: str) -> str:
        kept = await self._store.read(chat, LOG)
        return "" if kept is None else kept.text

    async def _whole(self, chat: str, post: Post) -> dict[str, Any]:
        if post.text is not None:
            return asdict(post) | {"done": True}
        kept = await self._store.read(chat, post.id)
        text, statuses = (kept.text, kept.statuses) if kept is not None else ("", ())
        return asdict(post) | {"text": text, "done": any(status.get("done") for status in statuses)}


def _posts_in(log: str) -> Iterator[Post]:
    return (Post(**json.loads(line)) for line in log.splitlines())
