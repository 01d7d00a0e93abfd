"""Log lines, as text for people or as JSON for machines: with instance, sid and user where they are known, and without
tokens, whatever was logged.

An application with a logging configuration of its own gives its handlers one of the formatters; `configure` is what
``python -m realtime`` does.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from realtime.log_context import whose
from realtime.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HIDDEN = "***"
# A JSON Web Token begins with '{"' in base64. What a library cut out of its middle it replaced by dots.
_TOKEN = re.compile(r"eyJ[\w-]{8,}(?:[.…]+[\w-]*)*")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]+")
_NAMED = re.compile(
    r"""(?i)((?:token|authorization|password|secret|cookie)\\?["']?\s*[=:]\s*\\?["']?)[^\s"'\\&,;)}\]]+"""
)
_PASSWORD = re.compile(r"(?<=://)[^\s/@]*@")
_WEBSOCKETS = "realtime.websocket", "realtime.wire.engine"


def redacted(text: str) -> str:
    """The text without tokens, and without what is named as one, or as a password."""
    text = _BEARER.sub(rf"\1{HIDDEN}", _TOKEN.sub(HIDDEN, text))
    return _PASSWORD.sub(f"{HIDDEN}@", _NAMED.sub(rf"\1{HIDDEN}", text))


class TextLines(logging.Formatter):
    """A line, with what is known in brackets behind the message."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Adds to Formatter.formatMessage: whose event it was."""
        known = " ".join(f"{name}={value}" for name, value in _known(record).items())
        return super().formatMessage(record) + (f" [{known}]" if known else "")

    def format(self, record: logging.LogRecord) -> str:
        """Adds to Formatter.format: tokens are hidden, in tracebacks too."""
        return redacted(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `instance`, and where there are any
    `sid`, `user`, `exception` and `stack`."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self._instance = instance

    def format(self, record: logging.LogRecord) -> str:
        """Replaces Formatter.format, which makes text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
            "instance": self._instance,
            **_known(record),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = redacted(record.stack_info)
        return json.dumps(line, ensure_ascii=False)


def _known(record: logging.LogRecord) -> dict[str, str]:
    sid, user = whose()
    named = getattr(record, "sid", "")
    if named and named != sid:
        sid, user = named, getattr(record, "user", "")
    return {name: value for name, value in (("sid", sid), ("user", user)) if value}


def configure(settings: Settings, *, level: str) -> None:
    """All that this process logs goes to the standard error, in the form that the settings say; so do warnings, and
    what nobody caught."""
    handler = logging.StreamHandler()
    as_json = settings.realtime_log_format == "json"
    handler.setFormatter(JsonLines(settings.realtime_instance_name) if as_json else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda failed: _uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    error = error or kind()
    if isinstance(error, Exception):
        logging.getLogger("realtime").critical("nobody caught this", exc_info=(kind, error, traceback))
    else:
        sys.__excepthook__(kind, error, traceback)


def guard_loggers() -> None:
    """Whoever configures logging: nobody is told what frames hold, or what a request's query has in it. Loggers are
    the process', so this is done once however often it is called."""
    for name in _WEBSOCKETS:
        logging.getLogger(name).addFilter(_without_contents)


def _without_contents(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    return record.levelno > logging.DEBUG
