"""An application with the layer inside, and doors to the layer's functions for other backend modules.

It takes the command line of `python -m realtime`, and so is started like an instance:
`Instance(module="sim.processes.lab_app")`. The doors trust whoever reaches them; it listens on loopback.
"""

from __future__ import annotations

import sys

import click

from sim.targets.realtime import serve


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url", required=True)
@click.option("--database-url", required=True)
@click.option("--demo", is_flag=True)
def main(host: str, port: int, redis_url: str, database_url: str, demo: bool) -> None:
    """Serve one instance with doors."""
    try:
        serve(host=host, port=port, redis_url=redis_url, database_url=database_url, demo=demo)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
