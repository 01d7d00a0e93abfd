"""Tests that take `backend` run on memory, fakeredis and a real server; those of `redis_backend` on the latter two."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.state.backends import KINDS, Backend, opened


@pytest.fixture(params=KINDS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with opened(request.param, **_where(request, request.param)) as it:
        yield it


@pytest.fixture(params=[kind for kind in KINDS if kind != "memory"])
async def redis_backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with opened(request.param, **_where(request, request.param)) as it:
        yield it


def _where(request: pytest.FixtureRequest, kind: str) -> dict[str, str]:
    if kind != "redis":
        return {}
    prefix = request.getfixturevalue("redis_prefix")
    return {"url": request.getfixturevalue("redis_url"), "root": f"{{{prefix}:realtime}}"}
