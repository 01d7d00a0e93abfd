"""Mutants of a Lua script: calls left out, conditions negated, factors of time wrong by ten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .mutant import CALL, CONDITION, SLOWER, SOONER, Mutant

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*)
      | (?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator>==|~=|<=|>=|\.\.\.?|[-+*/%^\#<>=(){}\[\];:,.])""",
    re.VERBOSE,
)

_NOTHING = {
    "{}": ("ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "HKEYS", "HMGET"),
    "{'0', '0'}": ("TIME",),
    "false": ("GET", "HGET", "ZSCORE"),
    "0": ("EXISTS", "HEXISTS", "HINCRBY", "ZCARD", "ZCOUNT", "ZREM"),
}
"""What a script sees of a call that was left out: the answer of a Redis that has nothing there."""

_FLIPPED = {"==": "~=", "~=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_OPENS, _CLOSES = frozenset("({["), frozenset(")}]")
_BEGINS_STATEMENT = frozenset(["", ")", "}", "]", "then", "else", "do", "end"])
_ENDS_OPERAND = frozenset(["=", "return", ",", "and", "or", "(", "{", "[", "then", "not"])


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


def tokens(source: str) -> list[Token]:
    """Raises ``ValueError`` for what this small reader does not know, such as long strings."""
    found, at = [], 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None or source.startswith("[[", at):
            raise ValueError(f"unreadable Lua: {source[at : at + 40]!r}")
        if match.lastgroup != "skip":
            found.append(Token(match.lastgroup or "", match.group(), match.start(), match.end()))
        at = match.end()
    return found


def mutants(file: str, source: str) -> Iterator[Mutant]:
    found = tokens(source)

    def mutant(rule: str, start: int, end: int, replacement: str) -> Mutant:
        return Mutant(file, rule, "", start, end, replacement)

    for start, end, replacement in [*_calls(found), *_helpers(found)]:
        yield mutant(CALL, start, end, replacement)
    tests = list(_tests(found))
    for first, last in tests:
        start, end = found[first].start, found[last].end
        yield mutant(CONDITION, start, end, f"not ({source[start:end]})")
    for number, token in enumerate(found):
        if any(first <= number <= last for first, last in tests):
            continue
        if token.text in _FLIPPED:
            yield mutant(CONDITION, token.start, token.end, _FLIPPED[token.text])
        elif token.text == "and":
            start = found[_operand(found, number)].start
            end = found[number - 1].end
            yield mutant(CONDITION, start, end, f"not ({source[start:end]})")
    for number, token in enumerate(found):
        if token.kind == "number" and found[number - 1].text in ("*", "/"):
            yield mutant(SLOWER, token.start, token.end, f"({token.text} * 10)")
            yield mutant(SOONER, token.start, token.end, f"({token.text} / 10)")


def _calls(found: list[Token]) -> Iterator[tuple[int, int, str]]:
    """Each ``redis.call(...)``, and what stands in its place."""
    for number in range(len(found) - 4):
        if [token.text for token in found[number : number + 3]] != ["redis", ".", "call"]:
            continue
        last = _closing(found, number + 3)
        nothing = "" if _is_statement(found, number) else _nothing(found[number + 4].text.strip("'"))
        yield found[number].start, found[last].end, nothing


def _helpers(found: list[Token]) -> Iterator[tuple[int, int, str]]:
    """Each call of a function of our own that is a statement."""
    for number, token in enumerate(found[:-1]):
        before = found[number - 1].text if number else ""
        if (
            token.kind == "name"
            and found[number + 1].text == "("
            and before not in (".", "function")
            and _is_statement(found, number)
            and token.text not in _KEYWORDS
        ):
            yield token.start, found[_closing(found, number + 1)].end, ""


_KEYWORDS = frozenset(
    ["and", "do", "else", "elseif", "end", "for", "function", "if", "in", "local", "not", "or"]
)
_KEYWORDS |= {"return", "then", "while"}


def _nothing(command: str) -> str:
    for nothing, commands in _NOTHING.items():
        if command in commands:
            return nothing
    raise ValueError(f"what {command} answers where nothing is, is not known here: add it to _NOTHING")


def _is_statement(found: list[Token], number: int) -> bool:
    before = found[number - 1] if number else Token("", "", 0, 0)
    if before.text in _BEGINS_STATEMENT:
        return True
    # An operand right after another one: Lua has no operator that is written as nothing.
    return before.kind in ("string", "number") or (before.kind == "name" and before.text not in _KEYWORDS)


def _closing(found: list[Token], opening: int) -> int:
    depth = 0
    for number in range(opening, len(found)):
        depth += (found[number].text in _OPENS) - (found[number].text in _CLOSES)
        if depth == 0:
            return number
    raise ValueError("a bracket is not closed")


def _tests(found: list[Token]) -> Iterator[tuple[int, int]]:
    """First and last token of each condition between ``if`` and ``then``."""
    for number, token in enumerate(found):
        if token.text in ("if", "elseif"):
            then = next(at for at in range(number, len(found)) if found[at].text == "then")
            yield number + 1, then - 1


def _operand(found: list[Token], operator: int) -> int:
    """Where the left operand of an ``and`` begins."""
    depth, number = 0, operator - 1
    while True:
        text = found[number].text
        if depth == 0 and text in _ENDS_OPERAND:
            return number + 1
        depth += (text in _CLOSES) - (text in _OPENS)
        number -= 1
