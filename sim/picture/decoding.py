"""A message's bytes in words: Redis, HTTP, websocket frames, Engine.IO and Socket.IO packets, look-ups of users."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sim.picture.recording import DATABASE, REDIS, Sent
from sim.picture.redis_words import (
    PLUMBING,
    NotResp,
    Pushed,
    Refusal,
    Simple,
    command_words,
    reply_words,
    script_titles,
    values,
)

MINOR, PLAIN, MAIN = 0, 1, 2
"""How much a message says: connections and greetings; answers; commands and events."""

LONGEST_LINE = 4_000
LINES = {
    "open": "opens a connection",
    "accept": "accepts the connection",
    "refuse": "refuses the connection",
    "eof": "ends its side of the connection",
    "reset": "resets the connection",
}
ENGINE_IO = {"0": "open", "1": "close", "2": "ping", "3": "pong", "5": "upgrade", "6": "noop"}
SOCKET_IO = ("CONNECT", "DISCONNECT", "", "ack", "CONNECT_ERROR", "", "ack")
FRAMES = {0x0: "continued: ", 0x8: "websocket close", 0x9: "websocket ping", 0xA: "websocket pong"}

_PACKET = re.compile(r"([0-6])(?:(\d+)-)?(?:(/[^,]*),)?(\d+)?(.*)", re.DOTALL)
_TOKEN = re.compile(r"eyJ[\w-]+\.(eyJ[\w-]+)\.[\w-]+")


@dataclass(frozen=True, slots=True)
class Words:
    """``lines``: one for each command, reply, packet. ``family``: line, redis, reply, bus, http, socket, db, other."""

    family: str
    weight: int
    lines: tuple[str, ...]

    @property
    def label(self) -> str:
        return " · ".join(self.lines)


class Decoder:
    """For one run: scripts that are called by their digest are known from when they were sent."""

    def __init__(self, hosts: Mapping[str, str], messages: Iterable[Sent] = ()) -> None:
        self._hosts = hosts
        self._titles = script_titles(
            message.data for message in messages if hosts.get(message.target) == REDIS
        )

    def words(self, message: Sent) -> Words:
        if message.kind != "data":
            text = LINES.get(message.kind, message.kind)
            return Words("line", MAIN if message.kind in ("reset", "refuse") else MINOR, (text,))
        found = self._decoded(message)
        lines = tuple(_cut(line) for line in found.lines) or ("nothing",)
        return Words(found.family, found.weight, lines)

    def _decoded(self, message: Sent) -> Words:
        data = message.data
        if self._hosts.get(message.target) == REDIS:
            return self._commands(data)
        if self._hosts.get(message.source) == REDIS:
            return _replies(data)
        if DATABASE in (self._hosts.get(message.source), self._hosts.get(message.target)):
            asks = self._hosts.get(message.target) == DATABASE
            return Words("db", MAIN if asks else PLAIN, tuple(data.decode(errors="replace").split("\n")[:-1]))
        return _web(data)

    def _commands(self, data: bytes) -> Words:
        lines, weight = [], MINOR
        try:
            for words in values(data):
                if not isinstance(words, list) or not words:
                    raise NotResp("no command")
                lines.append(command_words(words, self._titles))
                if str(words[0]).upper() not in PLUMBING:
                    weight = MAIN
        except NotResp:
            return Words("redis", MAIN, (*lines, _raw(data)))
        return Words("redis", weight, tuple(lines))


def _replies(data: bytes) -> Words:
    lines, weight, family = [], MINOR, "reply"
    try:
        for value in values(data):
            lines.append(reply_words(value))
            if isinstance(value, Pushed) and "message" in str(value.parts[:1]):
                weight, family = MAIN, "bus"
            elif isinstance(value, Refusal) or _answers(value):
                weight = max(weight, PLAIN)
    except NotResp:
        return Words(family, PLAIN, (*lines, _raw(data)))
    return Words(family, weight, tuple(lines))


def _answers(value: object) -> bool:
    """Whether a reply says more than OK, or who the server is."""
    greets = isinstance(value, dict) and "proto" in value
    return not isinstance(value, Pushed) and value != Simple("OK") and not greets


def _web(data: bytes) -> Words:
    head, blank, body = data.partition(b"\r\n\r\n")
    first = head.partition(b"\r\n")[0].decode(errors="replace")
    if blank and re.fullmatch(r"[A-Z]+ \S+ HTTP/1\.[01]|HTTP/1\.[01] \d+.*", first):
        return _http(first, _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body)
    frames = _frames(data)
    if frames is not None:
        return Words("socket", _weight(frames), tuple(frames))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Words("other", PLAIN, (_raw(data),))
    packets = [packet_words(packet) for packet in text.split("\x1e")]
    return Words("socket", _weight(packets), tuple(packets))


def _http(first: str, body: bytes) -> Words:
    request = not first.startswith("HTTP/")
    line = first.rsplit(" ", 1)[0] if request else first.split(" ", 1)[1]
    line = re.sub(r"[?&]t=[^&\s]*", lambda match: "?" if match[0].startswith("?") else "", line).replace(
        "?&", "?"
    )
    packets: list[str] = []
    if body:
        frames = _frames(body) if line.startswith("101") else None
        text = body.decode(errors="replace")
        packets = frames if frames is not None else [packet_words(packet) for packet in text.split("\x1e")]
    weight = _weight(packets) if packets else MINOR if line.startswith("101") else PLAIN
    return Words("http", weight, (line, *packets))


def _unchunked(body: bytes) -> bytes:
    """The bytes of whole chunks (RFC 9112, section 7.1); what is no chunk is left as it is."""
    found = b""
    while body:
        size, line_end, rest = body.partition(b"\r\n")
        if not line_end or not re.fullmatch(rb"[0-9a-fA-F]+", size):
            return found + body
        found += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return found


def _frames(data: bytes) -> list[str] | None:
    """Whole websocket frames (RFC 6455, section 5.2) in words; None if the bytes are none."""
    found: list[str] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        first, second = data[at], data[at + 1]
        opcode, size, at = first & 0x0F, second & 0x7F, at + 2
        if first & 0x30 or opcode not in (0, 1, 2, 8, 9, 10):
            return None
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width])
            at += width
        key = b""
        if second & 0x80:
            key, at = data[at : at + 4], at + 4
        body = data[at : at + size]
        if len(body) < size or (second & 0x80 and len(key) < 4):
            return None
        at += size
        if key:
            mask = (key * (size // 4 + 1))[:size]
            body = (int.from_bytes(body) ^ int.from_bytes(mask)).to_bytes(size)
        found.append(_frame(opcode, body, compressed=bool(first & 0x40)))
    return found


def _frame(opcode: int, body: bytes, *, compressed: bool) -> str:
    if compressed:
        return f"{len(body):,} compressed bytes"
    if opcode == 0x8:
        code = int.from_bytes(body[:2]) if len(body) >= 2 else 0
        return " ".join(filter(None, [FRAMES[opcode], str(code or ""), body[2:].decode(errors="replace")]))
    if opcode == 0x2:
        return f"binary, {len(body):,} bytes"
    text = body.decode(errors="replace")
    return packet_words(text) if opcode == 0x1 else f"{FRAMES[opcode]}{text}"


def packet_words(text: str) -> str:
    """An Engine.IO packet (protocol 4) in words, and the Socket.IO packet (protocol 5) in it."""
    if text[:1] == "b":
        return f"binary, {len(text) - 1:,} characters of base64"
    if text[:1] != "4":
        kind = ENGINE_IO.get(text[:1])
        return text if kind is None else " ".join(filter(None, [f"Engine.IO {kind}", text[1:]]))
    match = _PACKET.fullmatch(text, 1)
    if match is None:
        return text
    kind, _attachments, namespace, number, said = match.groups()
    said = _TOKEN.sub(_whose_token, said)
    where = f" in {namespace}" if namespace else ""
    if kind in "25":
        return f"{_event(said)}{where}" + (f" (ack {number} wanted)" if number else "")
    return " ".join(filter(None, [SOCKET_IO[int(kind)] + where, number, said]))


def _event(said: str) -> str:
    try:
        name, *arguments = json.loads(said)
    except (ValueError, TypeError):
        return said
    return " ".join([str(name), *(json.dumps(each, ensure_ascii=False) for each in arguments)])


def _whose_token(match: re.Match[str]) -> str:
    claims = match[1]
    try:
        user = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["id"]
    except (ValueError, KeyError, TypeError):
        return match[0]
    return f"‹token of {user}›"


def _weight(packets: Iterable[str]) -> int:
    small = ("Engine.IO", "CONNECT", "websocket p", "ok")
    return MINOR if all(packet.startswith(small) for packet in packets) else MAIN


def _raw(data: bytes) -> str:
    text = data.decode(errors="replace")
    shown = text if text.isprintable() else data[:64].hex(" ")
    return f"{len(data):,} bytes: {shown}"


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… ({len(line):,} characters)"
