"""RESP in words: commands with their arguments, replies, what pub/sub pushes, and Lua scripts by what they say of
themselves."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLUMBING = frozenset(
    "AUTH CLIENT COMMAND CONFIG HELLO INFO PING SCRIPT SELECT SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE".split()  # noqa: SIM905
)
SCRIPTS = frozenset({"EVAL", "EVALSHA"})
LONGEST_TITLE = 48


@dataclass(frozen=True, slots=True)
class Pushed:
    """What Redis sends unasked: kind, channel, payload."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


@dataclass(frozen=True, slots=True)
class Simple:
    """A reply that is a word: OK, PONG."""

    text: str


class NotResp(ValueError):
    """The bytes are no complete value of the protocol."""


def values(data: bytes) -> Iterator[Any]:
    """Every value in the bytes: ``str``, ``int``, ``float``, None, ``list``, ``dict``, or one of the classes above.

    Raises ``NotResp`` at the first that is none or not whole.
    """
    at = 0
    while at < len(data):
        value, at = _value(data, at)
        yield value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise NotResp("no end of line")
    kind, text, at = data[at : at + 1], data[at + 1 : end].decode(errors="replace"), end + 2
    try:
        if kind in b"$=!":
            size = int(text)
            if size < 0:
                return None, at
            if at + size > len(data):
                raise NotResp("cut short")
            word = data[at : at + size].decode(errors="replace")
            return (Refusal(word) if kind == b"!" else word), at + size + 2
        if kind in b"*~>":
            items, at = _several(data, at, int(text))
            return (Pushed(tuple(items)) if kind == b">" else items), at
        if kind == b"%":
            flat, at = _several(data, at, 2 * int(text))
            return {str(key): value for key, value in zip(flat[::2], flat[1::2], strict=True)}, at
        if kind == b":":
            return int(text), at
        if kind == b",":
            return float(text), at
    except ValueError as error:
        raise NotResp(str(error)) from error
    plain: dict[bytes, Any] = {
        b"_": None,
        b"+": Simple(text),
        b"-": Refusal(text),
        b"#": text == "t",
        b"(": text,
    }
    if kind not in plain or not kind:
        raise NotResp(f"no value begins with {kind!r}")
    return plain[kind], at


def _several(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(count):
        value, at = _value(data, at)
        found.append(value)
    return found, at


def script_titles(messages: Iterable[bytes]) -> dict[str, str]:
    """Digest to title of every Lua script that was sent: the beginning of its first comment that no other one has."""
    sources: dict[str, str] = {}
    for data in messages:
        if b"EVAL" not in data and b"LOAD" not in data:
            continue
        try:
            for words in values(data):
                source = _script_source(words)
                if source is not None:
                    sources[hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()] = source
        except NotResp:
            continue
    comments = {
        digest: re.findall(r"^--+ *(\S.*)$", source, re.MULTILINE) for digest, source in sources.items()
    }
    known = Counter(line for lines in comments.values() for line in set(lines))
    return {
        digest: _title(next((line for line in lines if known[line] == 1), lines[0]))
        for digest, lines in comments.items()
        if lines
    }


def _script_source(words: Any) -> str | None:
    match words:
        case [str(verb), str(source), *_] if verb.upper() == "EVAL":
            return source
        case [str(verb), str(which), str(source)] if (verb.upper(), which.upper()) == ("SCRIPT", "LOAD"):
            return source
    return None


def _title(comment: str) -> str:
    return re.split(r"[.,:;(]", comment)[0].strip()[:LONGEST_TITLE]


def command_words(words: list[Any], titles: Mapping[str, str]) -> str:
    """A command as one would type it; a script's source or digest becomes its title."""
    texts = ["nil" if word is None else str(word) for word in words]
    name = texts[0].upper()
    if name in SCRIPTS and len(texts) > 2:
        digest = (
            texts[1]
            if name == "EVALSHA"
            else hashlib.sha1(texts[1].encode(), usedforsecurity=False).hexdigest()
        )
        return " ".join([name, f"‹{titles.get(digest, digest[:8])}›", *map(_quoted, texts[3:])])
    if name == "PUBLISH" and len(texts) == 3:
        return f"PUBLISH {texts[1]} {payload_words(texts[2])}"
    return " ".join([name, *map(_quoted, texts[1:])])


def reply_words(value: Any) -> str:
    match value:
        case Simple(text):
            return text
        case Refusal(text):
            return f"error {text}"
        case Pushed((str(kind), str(channel), str(payload))) if kind.endswith("message"):
            return f"{kind} on {channel}: {payload_words(payload)}"
        case Pushed(parts):
            return " ".join(map(reply_words, parts))
        case None:
            return "nil"
        case str() | int() | float():
            return str(value)
        case list():
            return "[" + ", ".join(map(reply_words, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {reply_words(each)}" for key, each in value.items()) + "}"
    return repr(value)


def payload_words(text: str) -> str:
    """What python-socketio's managers tell each other: method, event, data, and whom it is for. Else as it is."""
    try:
        said = json.loads(text)
    except ValueError:
        return text
    if not isinstance(said, dict) or "method" not in said:
        return text
    words = [str(said["method"])]
    if "event" in said:
        words.append(str(said["event"]))
    data = said.get("data")
    given = data if isinstance(data, list) else [] if data is None else [data]
    words += [json.dumps(each, ensure_ascii=False) for each in given]
    words += [f"{key}={said[key]}" for key in ("room", "sid", "skip_sid", "id") if said.get(key) is not None]
    return " ".join(words)


def _quoted(word: str) -> str:
    """As a shell would want it; JSON stays as it is."""
    plain = word.startswith(("{", "[")) or re.fullmatch(r"[^\x00-\x20\"]+", word)
    return word if plain else json.dumps(word, ensure_ascii=False)
