"""`python -m realtime inspect fleet|instance NAME|user ID|session SID`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import NoReturn

import click

from realtime.errors import RealtimeError, StateUnavailable
from realtime.link import RedisLink, connector_from_settings
from realtime.settings import Settings, load_settings
from realtime.state.survey import Survey, survey

from .text import as_json, as_text
from .view import Kind, NotFound, view_of

WRONG, USAGE, UNAVAILABLE, NOT_FOUND = 1, 2, 3, 4


@click.command()
@click.argument("kind", type=click.Choice([each.value for each in Kind]))
@click.argument("name", required=False)
@click.option("--redis-url", help="Redis that the instances share; else what the environment says.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 60, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for each answer of Redis.",
)
@click.option("--json", "json_too", is_flag=True, help="One JSON object, and nothing left out.")
@click.pass_context
def inspect(
    context: click.Context, kind: str, name: str | None, redis_url: str | None, timeout: float, json_too: bool
) -> None:
    """Show what the instances of a fleet have registered, and what looks wrong. Nothing is written.

    NAME is an instance's name, a user's id or a session's sid; the fleet has none. REDIS_KEY_PREFIX says which fleet.

    The exit status is 0 when nothing looks wrong, 1 when something does, 2 for wrong usage or settings, 3 when Redis
    cannot be read, 4 when nothing of that name is registered.
    """
    if (name is None) != (kind == Kind.FLEET):
        raise click.UsageError("give a NAME" if name is None else "the fleet has no NAME")
    above = context.parent.params.get("redis_url") if context.parent else None
    try:
        view = view_of(asyncio.run(_look(redis_url or above, timeout)), Kind(kind), name or "")
    except NotFound as error:
        _end(error, NOT_FOUND)
    except StateUnavailable as error:
        _end(error, UNAVAILABLE)
    except RealtimeError as error:
        _end(error, USAGE)
    click.echo(as_json(view) if json_too else as_text(view))
    sys.exit(WRONG if view.findings else 0)


async def _look(redis_url: str | None, timeout: float) -> Survey:
    settings = _settings(redis_url, timeout)
    link = RedisLink(connector_from_settings(settings), timeout=timeout)
    try:
        return await survey(link, settings.state_key_prefix)
    finally:
        await link.close()


def _settings(redis_url: str | None, timeout: float) -> Settings:
    return load_settings(
        websocket_manager="redis" if redis_url else None,
        websocket_redis_url=redis_url,
        realtime_state_timeout_seconds=timeout,
        realtime_lease_seconds=3600,
        webui_secret_key=secrets.token_urlsafe(48),  # whoever looks need not be able to sign tokens
    )


def _end(error: RealtimeError, status: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"realtime: {line}", err=True)
    sys.exit(status)
