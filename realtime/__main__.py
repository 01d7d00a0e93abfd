"""``python -m realtime``: serve one instance. ``token``: make one; ``balancer``: configure one; ``inspect``: look at a
fleet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import click

from realtime import logs
from realtime.app import create_app
from realtime.auth import create_token
from realtime.balancer.command import balancer
from realtime.errors import RealtimeError, SettingsError
from realtime.ids import check_id
from realtime.inspection.command import inspect
from realtime.serving import make_server
from realtime.settings import Settings, load_settings

EXIT_USAGE = 2


@click.group(invoke_without_command=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=lambda *it: _named(it[-1]),
    help="Address to listen on.",
)
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port."
)
@click.option("--redis-url", help="Redis that the instances share; sets WEBSOCKET_MANAGER=redis too.")
@click.option("--database-url", help="Database of users and channels (DATABASE_URL).")
@click.option(
    "--demo", is_flag=True, help="Users exist on first sight, all in the channel general; loopback only."
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_context
def main(
    context: click.Context,
    host: str,
    port: int,
    redis_url: str | None,
    database_url: str | None,
    demo: bool,
    log_level: str,
) -> None:
    """Serve the real-time layer: Socket.IO under /ws/socket.io, /health and /ready.

    Settings come from the environment.
    """
    given = partial(_settings, redis_url=redis_url, database_url=database_url, demo=demo)
    context.obj = given  # not called yet: `token --help` must not need a key
    if context.invoked_subcommand is not None:
        return
    settings = given()
    logs.configure(settings, level=log_level)
    try:
        settings.check_host(host)
        server = make_server(create_app(settings), host=host, port=port, log_level=log_level)
    except RealtimeError as error:
        _refuse(str(error))
    server.run()
    if not server.started:
        sys.exit(1)


@main.command()
@click.argument("user_id")
@click.option(
    "--expires-in",
    type=click.FloatRange(min=0, min_open=True),
    default=30 * 24 * 3600.0,
    show_default=True,
    help="Seconds.",
)
@click.pass_obj
def token(given: Callable[[], Settings], user_id: str, expires_in: float) -> None:
    """Print a token for USER_ID, signed with WEBUI_SECRET_KEY (as `--demo token USER_ID`: with the demo's key)."""
    settings = given()
    try:
        check_id(user_id, what="USER_ID", max_length=settings.realtime_max_id_length)
        click.echo(create_token(user_id, settings.secret_key, expires_in=expires_in))
    except RealtimeError as error:
        _refuse(str(error))


main.add_command(balancer)
main.add_command(inspect)


def _named(host: str) -> str:
    if not host.strip():  # asyncio takes that, as in --host "$UNSET", for every address there is
        raise click.BadParameter("empty; give an address, 0.0.0.0 for all of them")
    return host


def _settings(*, redis_url: str | None, database_url: str | None, demo: bool) -> Settings:
    try:
        return load_settings(
            websocket_manager="redis" if redis_url else None,
            websocket_redis_url=redis_url,
            database_url=database_url,
            demo=demo or None,
        )
    except SettingsError as error:
        _refuse(str(error))
        raise


def _refuse(message: str) -> None:
    for line in message.splitlines():
        click.echo(f"realtime: {line}", err=True)
    sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main(prog_name="python -m realtime")
