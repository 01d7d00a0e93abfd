"""`python -m realtime balancer nginx|haproxy|tags`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from realtime.settings import Settings

from .haproxy import haproxy
from .nginx import nginx
from .plan import Backend, Plan, check_distinct, check_listen, patience

_EXAMPLE = ("instance-1=127.0.0.1:8081", "instance-2=127.0.0.1:8082")
_T = TypeVar("_T")


def tags(plan: Plan) -> str:
    """Tag, address and name of each instance on a line: what any other balancer has to know."""
    return "".join(f"{each.tag} {each.address} {each.name}\n" for each in plan.backends)


_KINDS: dict[str, Callable[[Plan], str]] = {"nginx": nginx, "haproxy": haproxy, "tags": tags}


def _default(field: str) -> float:
    value: float = Settings.model_fields[field].default
    return value


@click.command()
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="An instance: its REALTIME_INSTANCE_NAME, and where it listens. Once for each. If it has a"
    f" REALTIME_INSTANCE_TAG: NAME/TAG=HOST:PORT.  [default: {' and '.join(_EXAMPLE)}]",
)
@click.option("--listen", default="80", show_default=True, metavar="[HOST:]PORT", help="Of the balancer.")
@click.option(
    "--ping-interval",
    envvar="WEBSOCKET_SERVER_PING_INTERVAL",
    show_envvar=True,
    type=click.FloatRange(0, 3600, min_open=True),
    default=_default("websocket_server_ping_interval"),
    show_default=True,
    help="Seconds, as the instances have it.",
)
@click.option(
    "--ping-timeout",
    envvar="WEBSOCKET_SERVER_PING_TIMEOUT",
    show_envvar=True,
    type=click.FloatRange(0, 3600, min_open=True),
    default=_default("websocket_server_ping_timeout"),
    show_default=True,
    help="Seconds, as the instances have it.",
)
@click.option(
    "--max-body",
    envvar="REALTIME_MAX_PAYLOAD_BYTES",
    show_envvar=True,
    type=click.IntRange(1024, 100_000_000),
    default=_default("realtime_max_payload_bytes"),
    show_default=True,
    help="Bytes of a request; nginx refuses more.",
)
def balancer(
    kind: str,
    instances: Sequence[str],
    listen: str,
    ping_interval: float,
    ping_timeout: float,
    max_body: int,
) -> None:
    """Print a configuration for nginx or haproxy: each session to its own instance, new ones to any.

    For another balancer, `tags` prints the tag, address and name of each instance: route a request whose `sid` begins
    with a tag to that instance, all others to any.
    """
    chosen = instances or _EXAMPLE
    backends = [_checked("--instance", Backend.parse, text) for text in chosen]
    _checked("--instance", check_distinct, backends)
    _checked("--listen", check_listen, listen)
    words = [word for text in chosen for word in ("--instance", text)]
    plan = Plan(
        backends,
        listen=listen,
        patience=patience(ping_interval, ping_timeout),
        max_body=max_body,
        command=shlex.join(["python", "-m", "realtime", "balancer", kind, *words, "--listen", listen]),
    )
    click.echo(_KINDS[kind](plan), nl=False)


def _checked(option: str, check: Callable[..., _T], given: object) -> _T:
    try:
        return check(given)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint=option) from None
