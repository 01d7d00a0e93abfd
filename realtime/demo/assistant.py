"""The demo's assistant: made-up answers, streamed word by word, and a question before it posts for somebody.

It is written against the layer's public functions only: `get_event_emitter` reaches every tab of the user on every
instance, `get_event_call` asks the one tab that the question came from.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from realtime.demo.posts import Post, Posts, new_post
from realtime.errors import CallTimeout, Forbidden, LimitExceeded, RealtimeError, SessionGone
from realtime.server import RealtimeServer

log = logging.getLogger(__name__)

NAME = "Assistant"
WORD_SECONDS = 0.025
MAX_ANSWERS = 50
"""At once, on one instance."""

ANSWERS = (
    "Nothing here is clever: I am made up, and so is what I say. But the way it comes to you is real. Each word is an"
    " event of its own, sent through an event emitter to every tab that you have open, on whichever instance it is,"
    " and kept in the message store as it goes. Open a second tab while I talk: it will show the same, from the first"
    " word on, and no word twice.",
    "A made-up answer, then. Who is online is decided by one thing only: whether a session is registered. When an"
    " instance dies, its lease ends a few seconds later and its sessions are taken out, and your browser has come back"
    " on another one before that. Several tabs of yours count once, because it is people who are online, not sockets.",
    "I only pretend to think. While I do, the model that you chose is in use: your tab says so once a second, and three"
    " seconds after the last time it is over. Everybody sees that, on all instances, and nobody has to clean up after a"
    " tab that was closed in the middle of it.",
)
SHARED = "A thought, made up at {user}'s wish: it is people who are online, not sockets."
NOTE = "I have a thought that I could put into general for everybody to read. I ask before I do that."


@dataclass(frozen=True, slots=True)
class Question:
    """`chat`: the user's own chat with the assistant; `session_id`: the tab that asks."""

    id: str
    user_id: str
    session_id: str
    chat: str
    text: str


class Assistant:
    """Answers one question of a user at a time. `share(author, text)` posts to the channel general."""

    def __init__(
        self, server: RealtimeServer, posts: Posts, share: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._server = server
        self._posts = posts
        self._share = share
        self._answering: dict[str, str] = {}
        """Users, and the posts that they are being answered."""

    def check_free(self, user_id: str, post_id: str) -> bool:
        """False if it is answering this very post already. Raises `LimitExceeded` if it can answer no other."""
        if self._answering.get(user_id) == post_id:
            return False
        if user_id in self._answering:
            raise LimitExceeded("the assistant is still answering you")
        if len(self._answering) >= MAX_ANSWERS:
            raise LimitExceeded("the assistant has too much to do: ask again in a moment")
        return True

    def ask(self, question: Question) -> None:
        """Begins to answer. Raises `LimitExceeded`."""
        if not self.check_free(question.user_id, question.id):
            return
        self._answering[question.user_id] = question.id
        task = self._server.tasks.once("demo-assistant", self._answer(question))
        task.add_done_callback(lambda _task: self._answering.pop(question.user_id))

    async def _answer(self, question: Question) -> None:
        try:
            await self._answer_in_full(question)
        except RealtimeError as error:
            # The page says that no more came; what was kept stays.
            log.warning("an answer of the demo's assistant was cut short: %s", error)

    async def _answer_in_full(self, question: Question) -> None:
        post = new_post(f"answer-{secrets.token_hex(8)}", NAME, None, kind="assistant")
        await self._posts.add(question.chat, post)
        emit = self._emitter(question, post)
        await emit({"type": "post", "data": asdict(post) | {"text": "", "done": False}})
        await emit({"type": "status", "data": {"description": "Thinking", "done": False}})
        shares = re.search(r"\b(share|post|tell everybody)\b", question.text, re.IGNORECASE) is not None
        said = await self._say(emit, 0, NOTE if shares else self._answer_to(question))
        if shares:
            await self._say(emit, said, " " + await self._share_if_allowed(question, post))
        await emit({"type": "status", "data": {"description": "", "done": True}})

    async def _say(self, emit: Callable[[Any], Awaitable[None]], at: int, text: str) -> int:
        """Word by word, each with its place in the whole, so that a tab that comes late misses and doubles nothing."""
        for word in re.findall(r"\s*\S+", text):
            await emit({"type": "message", "data": {"content": word, "at": at}})
            at += len(word)
            await asyncio.sleep(WORD_SECONDS)
        return at

    async def _share_if_allowed(self, question: Question, post: Post) -> str:
        text = SHARED.format(user=question.user_id)
        request = {
            "user_id": question.user_id,
            "session_id": question.session_id,
            "chat_id": question.chat,
            "message_id": post.id,
        }
        call = self._server.get_event_call(request, resume=True)
        try:
            allowed = await call(
                {"type": "confirmation", "data": {"title": "Post this to general?", "message": text}}
            )
        except (CallTimeout, SessionGone):
            return "Nobody answered, so I posted nothing."
        except Forbidden:
            return "The tab that asked is not yours, so I posted nothing."
        if allowed is not True:
            return "You said no, so I posted nothing."
        await self._share(f"{NAME}, for {question.user_id}", text)
        return "You said yes: it is in general now."

    def _emitter(self, question: Question, post: Post) -> Callable[[Any], Awaitable[None]]:
        request = {"user_id": question.user_id, "chat_id": question.chat, "message_id": post.id}
        return self._server.get_event_emitter(request)

    def _answer_to(self, question: Question) -> str:
        asked = _words(question.text)
        answer = max(ANSWERS, key=lambda each: len(_words(each) & asked))
        return f"You asked: “{question.text[:200]}” {answer}"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{3,}", text.lower()))
