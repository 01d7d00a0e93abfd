"""What ARCHITECTURE.md and the pages of docs/ say is so; the links of all documents lead somewhere."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from realtime import errors
from realtime.auth import create_token
from realtime.errors import Close, RealtimeError
from tests.e2e.clients import Kind
from tests.e2e.commands import Command, said_by
from tests.e2e.conftest import Visit
from tests.e2e.pages import OTHERS, PAGES, ROOT, anchors, blocks, code, links, table, text

BLOCKS = blocks(*OTHERS)
SOURCES = "".join(path.read_text() for path in (ROOT / "realtime").rglob("*.py"))
RUN_HERE = {"tags", "serve-gently"}
RUN_BY_TEST_MOVING = {
    "stock",
    "moved",
    "moving-settings",
    "moving-stock",
    "moving-beside",
    "moving-on",
    "owui-socket",
    "owui-main",
    "owui-serve",
}
COMPARED = {"map", "picture", "connect", "message", "tags-say"}
FOLDERS = ["", "realtime", "realtime/state/scripts"]
NOT_FOR_CLIENTS = {
    "error",
    "settings",
    "schema-mismatch",
    "lease-lost",
    "overloaded",
    "session-gone",
    "timeout",
}
"""Codes of errors that the layer's own handlers do not let out to a client."""


def test_every_block_is_run_or_compared_by_a_test() -> None:
    assert BLOCKS.keys() == RUN_HERE | RUN_BY_TEST_MOVING | COMPARED


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


def test_every_page_is_named_in_the_readme() -> None:
    named = {link.partition("#")[0] for link in links("README.md")}
    assert set(OTHERS) <= named


def test_the_tags_shown_are_the_tags_printed(tmp_path: Path) -> None:
    assert said_by(BLOCKS["tags"], folder=tmp_path, status=0) == BLOCKS["tags-say"]


@pytest.mark.e2e
async def test_an_application_of_ones_own_shuts_down_gently_as_shown(visit: Visit) -> None:
    secret = "given by the test, so that it can sign tokens"
    serve = Command(f"export WEBUI_SECRET_KEY='{secret}'\npython serve.py {{port}}", name="gently")
    (serve.folder / "chat.py").write_text(blocks("README.md")["chat"])
    port = BLOCKS["serve-gently"].replace("port=8080", "port=int(sys.argv[1])")
    (serve.folder / "serve.py").write_text(f"import sys\n\n{port}")
    async with serve:
        client = visit(Kind("python", "websocket"))
        await client.connect(serve.url, {"token": create_token("ann", secret, expires_in=60)})
        await client.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
        assert await asyncio.to_thread(serve.terminate) == 0
        await client.wait_for("closing", lambda data: data["code"] == Close.DRAINING.value.code)


def test_the_table_of_refusals_names_every_code_that_a_client_may_get() -> None:
    known = {
        each.code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, RealtimeError)
    }
    told = {code(cell)[0] for cell, _ in table("codes")}
    assert told == known - NOT_FOR_CLIENTS | {"internal"}


def test_the_table_of_closing_codes_is_the_codes_and_marks_those_never_sent() -> None:
    wanted = [
        [
            str(close.value.code),
            close.value.reason,
            ("yes" if close.value.reconnect else "no")
            + ("" if f"Close.{close.name}" in SOURCES else " (not sent yet)"),
        ]
        for close in Close
    ]
    assert table("closes") == sorted(wanted)


def test_the_seams_are_where_the_table_says() -> None:
    for seams, places, _ in table("seams"):
        sources = [(ROOT / place).read_text() for place in code(places)]
        for seam, source in zip(code(seams), sources, strict=True):
            assert re.search(rf"^class {seam}\b", source, re.MULTILINE), seam


def test_the_packages_import_each_other_as_the_architecture_says() -> None:
    importing = re.compile(r"^\s*(?:from|import) (realtime|sim|loadtests|tests)\b", re.MULTILINE)
    found = {
        (str(path.relative_to(ROOT)), other)
        for folder in ("realtime", "sim", "loadtests")
        for path in (ROOT / folder).rglob("*.py")
        for other in importing.findall(path.read_text())
        if other != folder
    }
    assert found == {("sim/targets/realtime.py", "realtime")}


def test_the_files_named_in_the_architecture_exist() -> None:
    named = {path for path in code(text("ARCHITECTURE.md")) if re.fullmatch(r"[\w/]+(\.py|\.lua|/)", path)}
    named |= set(re.findall(r"^ .{16}(\w+/\w+\.py|\w+\.py) ", BLOCKS["message"], re.MULTILINE))
    assert len(named) > 20
    for path in named:
        assert any((ROOT / folder / path).exists() for folder in FOLDERS), path


def test_the_keys_shown_are_the_keys_of_the_scripts() -> None:
    prelude = (ROOT / "realtime/state/scripts/_prelude.lua").read_text()
    kept = dict(re.findall(r"^--   <root>:(\S+) +(\w+)", prelude, re.MULTILINE))
    kind = {"STRING": "string", "HASH": "hash", "ZSET": "sorted set", "channel": "channel"}
    assert {code(key)[0]: told for key, told, _ in table("keys")} == {
        key: kind[it] for key, it in kept.items()
    }


def test_the_map_is_true_to_the_tree() -> None:
    folder = ROOT
    for line in BLOCKS["map"].splitlines():
        indent, paths = re.match(r"( *)([^ ,]+(?:, [^ ,]+)*) ", line).groups()  # type: ignore[union-attr]
        for path in paths.split(", "):
            if not indent:
                folder = ROOT / path
            place = folder / path if indent else ROOT / path
            assert place.is_dir() if path.endswith("/") else place.is_file(), line
    packages = {each.parent.name for each in ROOT.glob("*/__init__.py")}
    assert packages <= {line.split("/")[0] for line in BLOCKS["map"].splitlines()}
