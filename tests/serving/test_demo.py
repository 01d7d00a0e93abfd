"""The demo's page without a browser: who may reach it, what it keeps, and what it says without its client."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from realtime.app import create_app
from realtime.auth import create_token
from realtime.demo import fetch, routes
from realtime.secret import DEMO_SECRET_KEY
from realtime.settings import load_settings

PATHS = ("/", "/demo/main.js", "/demo/chats/posts?chat=general")


def make_app(folder: Path, **settings: Any) -> FastAPI:
    return create_app(load_settings(database_url=f"sqlite+aiosqlite:///{folder}/demo.db", **settings))


def client(app: FastAPI, address: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{address}")


@asynccontextmanager
async def demo(folder: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(folder, demo=True, **settings)
    async with app.router.lifespan_context(app), client(app) as http:
        yield http


async def sign_in(http: httpx.AsyncClient, name: str) -> dict[str, str]:
    answer = await http.post("/demo/sign-in", json={"name": name})
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def a_post(text: str, chat: str = "general", **more: str) -> dict[str, str]:
    return {"chat": chat, "id": secrets.token_hex(16), "text": text, **more}


async def test_without_the_option_there_is_no_page_and_nobody_gets_a_token(tmp_path: Path) -> None:
    async with client(make_app(tmp_path, webui_secret_key=secrets.token_hex(32))) as http:
        for path in PATHS:
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/demo/sign-in", json={"name": "ann"})).status_code == 404
        assert (await http.post("/demo/chats/posts", json=a_post("hello"))).status_code == 404


async def test_another_machine_gets_nothing_of_the_demo(tmp_path: Path) -> None:
    async with client(make_app(tmp_path, demo=True), "192.0.2.7") as http:
        for path in PATHS:
            assert (await http.get(path)).status_code == 403
        assert (await http.post("/demo/sign-in", json={"name": "ann"})).status_code == 403


async def test_everything_of_the_page_comes_with_a_policy_that_lets_no_foreign_script_in(
    tmp_path: Path,
) -> None:
    async with client(make_app(tmp_path, demo=True)) as http:
        for path in ("/", "/demo/main.js", "/demo/page.css", "/demo/icon.svg"):
            answer = await http.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
        page = (await http.get("/")).text
        assert "<script>" not in page
        assert "style=" not in page
        assert " on" not in "".join(part.split(">")[0] for part in page.split("<")[1:] if "=" in part)


async def test_files_beside_the_page_s_own_are_not_served(tmp_path: Path) -> None:
    async with client(make_app(tmp_path, demo=True)) as http:
        for name in ("routes.py", "..%2froutes.py", "missing.html", "page.html"):
            assert (await http.get(f"/demo/{name}")).status_code == 404


async def test_a_post_is_kept_once_however_often_it_is_sent_and_in_order(tmp_path: Path) -> None:
    async with demo(tmp_path) as http:
        ann = await sign_in(http, "ann")
        first, second = a_post("one\n<b>two</b>"), a_post("three")
        for post in (first, second, first):
            assert (await http.post("/demo/chats/posts", json=post, headers=ann)).status_code == 200
    async with demo(tmp_path) as http:  # again: from the database
        kept = (await http.get("/demo/chats/posts?chat=general", headers=ann)).json()["posts"]
        assert [(post["author"], post["text"]) for post in kept] == [
            ("ann", "one\n<b>two</b>"),
            ("ann", "three"),
        ]


async def test_nobody_puts_words_into_a_post_that_is_there_already(tmp_path: Path) -> None:
    async with demo(tmp_path) as http:
        ann, bob = await sign_in(http, "ann"), await sign_in(http, "bob")
        said, forged = a_post("short"), a_post("much longer, and not ann's")
        first = (await http.post("/demo/chats/posts", json=said, headers=ann)).json()["post"]
        answer = await http.post("/demo/chats/posts", json=forged | {"id": said["id"]}, headers=bob)
        # This is also what the channel is told.
        assert answer.json()["post"] == first
        assert (first["author"], first["text"]) == ("ann", "short")
        assert (await http.get("/demo/chats/posts?chat=general", headers=bob)).json()["posts"] == [first]


async def test_who_is_not_signed_in_or_no_member_reads_and_writes_nothing(tmp_path: Path) -> None:
    async with demo(tmp_path) as http:
        ann, bob = await sign_in(http, "ann"), await sign_in(http, "bob")
        forged = {"Authorization": f"Bearer {create_token('ann', 'x' * 40, expires_in=60)}"}
        late = {"Authorization": f"Bearer {create_token('ann', DEMO_SECRET_KEY, expires_in=-1)}"}
        for headers in ({}, {"Authorization": "ann"}, forged, late):
            assert (await http.get("/demo/chats/posts?chat=general", headers=headers)).status_code == 401
            assert (
                await http.post("/demo/chats/posts", json=a_post("x"), headers=headers)
            ).status_code == 401
        for chat in ("board", "assistant:ann"):
            assert (await http.get(f"/demo/chats/posts?chat={chat}", headers=bob)).status_code == 403
            assert (
                await http.post("/demo/chats/posts", json=a_post("x", chat), headers=bob)
            ).status_code == 403
        assert (await http.get("/demo/chats/posts?chat=general", headers=ann)).json() == {"posts": []}


async def test_the_assistant_keeps_its_answer_and_shares_nothing_that_nobody_confirmed(
    tmp_path: Path,
) -> None:
    async with demo(tmp_path, websocket_event_caller_timeout=0.3) as http:
        ann = await sign_in(http, "ann")
        question = a_post("share a thought", "assistant", session_id="of-nobody")
        assert (await http.post("/demo/chats/posts", json=question, headers=ann)).status_code == 200
        assert (await http.post("/demo/chats/posts", json=question, headers=ann)).status_code == 200
        second = a_post("and another", "assistant", session_id="of-nobody")
        assert (await http.post("/demo/chats/posts", json=second, headers=ann)).status_code == 429
        posts: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while len(posts) < 2 or not posts[1]["done"]:
                await asyncio.sleep(0.02)
                posts = (await http.get("/demo/chats/posts?chat=assistant", headers=ann)).json()["posts"]
        assert [post["author"] for post in posts] == ["ann", "Assistant"]
        assert posts[1]["text"].endswith("I ask before I do that. Nobody answered, so I posted nothing.")
        assert (await http.get("/demo/chats/posts?chat=general", headers=ann)).json() == {"posts": []}
        bob = await sign_in(http, "bob")
        assert (await http.get("/demo/chats/posts?chat=assistant", headers=bob)).json() == {"posts": []}


async def test_names_and_texts_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async with demo(tmp_path) as http:
        for name in ("", "   ", "a\0b", "x" * 41):
            assert (await http.post("/demo/sign-in", json={"name": name})).status_code in (400, 422)
        ann = await sign_in(http, "ann")
        for wrong in ({"id": "posts"}, {"text": ""}, {"text": "x" * 4001}, {"text": "a\0b"}):
            answer = await http.post("/demo/chats/posts", json=a_post("hello") | wrong, headers=ann)
            assert answer.status_code in (400, 422), wrong


async def test_without_the_client_page_and_log_say_which_command_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(routes, "BUNDLE", tmp_path / "absent.js")
    async with client(make_app(tmp_path, demo=True)) as http:
        assert fetch.COMMAND in (await http.get("/")).text
    assert fetch.COMMAND in caplog.text


def test_the_page_s_client_is_the_version_that_the_tests_in_node_use() -> None:
    package = json.loads((Path(__file__).parents[1] / "node" / "package.json").read_text())
    assert package["dependencies"]["socket.io-client"] == fetch.VERSION


@pytest.mark.node
def test_a_registry_that_cannot_be_reached_is_told_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BUNDLE", tmp_path / fetch.BUNDLE.name)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(fetch.BundleMissing, match=f"repeat it with `{fetch.COMMAND}`"):
        fetch.fetch()
    assert time.monotonic() - began < 30
