"""A server with the command line of `python -m realtime` and nothing behind it, to test what starts instances."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, HTTPServer


def main() -> None:
    parser = ArgumentParser()
    for option in ("--host", "--port", "--redis-url", "--database-url"):
        parser.add_argument(option)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    if os.environ.get("STAND_IN") == "broken":
        sys.exit("WEBUI_SECRET_KEY is too short")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            settings = {
                key: os.environ[key] for key in ("WEBUI_SECRET_KEY", "REDIS_KEY_PREFIX") if key in os.environ
            }
            self.send_response(200 if self.path in ("/ready", "/about") else 404)
            self.end_headers()
            self.wfile.write(json.dumps(vars(options) | settings).encode())

    sys.stdout.write("listening\n")
    HTTPServer((options.host, int(options.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
