"""redis-py's parser, which also notices that a pooled connection was reset.

redis-py looks whether an idle connection has ended before it uses it again, but only for an orderly end: after a reset
the next command would fail, and a message to other instances would be lost for nothing. The one file that knows where
redis-py keeps its parsers, and these their stream.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser
from redis.asyncio.connection import DefaultParser

if TYPE_CHECKING:
    Protocol2Parser = _AsyncRESP2Parser
else:
    # redis-py puts the parser of the protocol that was asked for in place of its own classes only.
    Protocol2Parser = _AsyncHiredisParser if DefaultParser is _AsyncHiredisParser else _AsyncRESP2Parser


class NoticingParser(Protocol2Parser):
    """Adds to can_read (can_read_destructive before redis-py 8): a stream that has failed must not be used again."""

    async def can_read(self) -> bool:
        return self._has_failed() or bool(await super().can_read())

    async def can_read_destructive(self) -> bool:
        return self._has_failed() or bool(await super().can_read_destructive())

    def _has_failed(self) -> bool:
        stream: asyncio.StreamReader | None = getattr(self, "_stream", None)
        return stream is not None and stream.exception() is not None
