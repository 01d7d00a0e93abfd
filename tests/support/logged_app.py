"""An instance that fails in every way it can be made to, and logs all of it at DEBUG: to the standard error as
`python -m realtime` does, and to the file `PLAIN_LOG` as an application does that knows nothing of our formatters.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from realtime import logs
from realtime.app import create_app
from realtime.directory import User
from realtime.directory.memory import MemoryDirectory
from realtime.serving import make_server
from realtime.settings import load_settings


class Failing(MemoryDirectory):
    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        if user_id == "boom":
            raise ZeroDivisionError("the directory failed")
        return await super().login(user_id)


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--database-url")
@click.option("--demo", is_flag=True)
def main(host: str, port: int, database_url: str | None, demo: bool) -> None:
    """Serve it."""
    settings = load_settings(demo=demo, realtime_log_format="json")
    logs.configure(settings, level="debug")
    plain = logging.FileHandler(os.environ["PLAIN_LOG"])
    plain.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(exc_text)s"))
    # What an application's own handler says of a token is its own doing: only our lines can hide that.
    plain.addFilter(lambda record: "of the application" not in str(record.exc_info))
    logging.getLogger().addHandler(plain)
    app = create_app(settings, directory=Failing(auto_create=True))

    async def fails(_sid: str, *args: Any) -> None:
        raise ZeroDivisionError("of the application", args)

    app.state.realtime.wire.on("fails", fails)
    make_server(app, host=host, port=port, log_level="debug").run()


if __name__ == "__main__":
    main()
