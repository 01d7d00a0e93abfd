"""``cluster``: real instances on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from sim.cli.ending import FAILED, HELD, fail
from sim.cli.options import check_target, target_option
from sim.processes.balancers import Balancer
from sim.processes.local import REALTIME, LocalCluster, watch
from sim.processes.process import ProcessError

SOCKET_PATH = "/ws/socket.io"
LOG_TAIL = 2000


@click.command("cluster")
@click.option("--instances", type=click.IntRange(1, 50), default=2, show_default=True)
@target_option
@click.option(
    "--balancer",
    is_flag=True,
    help="A load balancer before them that routes by session id: nginx if it is installed, else a small one.",
)
@click.option("--redis-url", help="A Redis that is there already; else one is started.")
def run_cluster(instances: int, target: str, balancer: bool, redis_url: str | None) -> None:
    """Serve a cluster of real processes on 127.0.0.1: to point load or a browser at.

    Ctrl-C or SIGTERM stops all of it. An instance that ends by itself is told of, and the others go on.
    """
    check_target(target)
    try:
        cluster = LocalCluster(instances, target=target, redis_url=redis_url, balanced=balancer)
        asyncio.run(_serve(cluster))
    except ProcessError as error:
        fail(str(error), FAILED)
    sys.exit(HELD)


async def _serve(cluster: LocalCluster) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    click.echo("starting", err=True)
    starting, stopped = loop.create_task(cluster.start(stop)), loop.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        if not stop.is_set():
            click.echo(_told(cluster))
        left = list(cluster.processes())
        while (ended := await watch(left, stop)) is not None:
            left.remove(ended)
            tail = ended.log[-LOG_TAIL:].strip()
            click.echo(f"{ended.name} ended with status {ended.returncode}; its last words:\n{tail}")
    finally:
        click.echo("stopping")
        for failure in await cluster.stop():
            click.echo(str(failure), err=True)
        stopped.cancel()
        await asyncio.gather(
            starting, stopped, return_exceptions=True
        )  # a start that was cut short has failed


def _told(cluster: LocalCluster) -> str:
    count = len(cluster.instances)
    lines = [f"{count} instance{'s' * (count > 1)} of {cluster.target} over {cluster.redis_url}"]
    if cluster.balancer is not None:
        lines.append(f"  {'balancer':12} {cluster.balancer.url}  {_kind(cluster.balancer)}")
        if cluster.target != REALTIME:
            lines.append("  Unless its session ids have the layer's tags, come to it by websocket only.")
    lines += [f"  {instance.name:12} {instance.url}" for instance in cluster.instances]
    lines.append(f"Socket.IO's path is {SOCKET_PATH}; a token for ann: {cluster.token_recipe()}")
    lines.append("Ctrl-C stops all of it.")
    return "\n".join(lines)


def _kind(balancer: Balancer) -> str:
    return "nginx" if balancer.kind == "nginx" else "the small one, since there is no nginx"
