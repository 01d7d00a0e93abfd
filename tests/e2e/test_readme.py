"""What README.md says is so: its commands and snippets are run, its tables are compared with the code.

Three commands are too heavy to run in here: `nox -s lab`, `nox -s test` and `pip install -e .`. Of them only the words,
the sessions' names and their modules are checked; the tour itself is run by test_tour.py, and .ci/run runs nox.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from loadtests._objectives import parse_objective
from realtime.auth import create_token
from realtime.demo.fetch import COMMAND as FETCH
from realtime.directory.memory import MemoryDirectory
from realtime.metrics.page import registry_of
from realtime.metrics.table import METRICS
from realtime.secret import DEMO_SECRET_KEY
from realtime.server import RealtimeServer
from realtime.settings import Settings, environment_name, load_settings
from realtime.tags import tag_of
from sim.__main__ import main as simulator
from sim.processes.redis import RedisServer
from sim.processes.tour.__main__ import CHECKS
from tests.e2e.clients import Kind
from tests.e2e.commands import Command, post, run, said_by, without_numbers
from tests.e2e.conftest import Visit
from tests.e2e.pages import ROOT, TEXT, blocks, code, table
from tests.support.node import node_binary

BLOCKS = blocks()
SOURCES = "".join(path.read_text() for path in (ROOT / "realtime").rglob("*.py"))
RUN_HERE = {
    "install",
    "lab",
    "test",
    "page",
    "rows",
    "serve",
    "token",
    "client",
    "browser",
    "fleet",
    "balancer",
    "cluster",
    "chat",
    "chat-serve",
    "develop",
    "load",
    "load-own",
    "inspect",
    "drawing",
    "install-sim",
    "tally",
    "tally-races",
    "race-run",
    "race-explore",
    "race-replay",
    "tally-mended",
    "simulator",
}
COMPARED = {"race-run-says", "race-explore-says", "race-replay-says"}


def sessions_of_noxfile() -> set[str]:
    body = ast.parse((ROOT / "noxfile.py").read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.decorator_list}


def test_every_block_is_run_or_compared_by_a_test_here() -> None:
    assert BLOCKS.keys() == RUN_HERE | COMPARED


def test_the_two_commands_of_the_first_screen_are_sessions_that_exist() -> None:
    assert BLOCKS["lab"].strip() == (
        "python3 -m venv .venv && . .venv/bin/activate && pip install nox && nox -s lab"
    )
    assert BLOCKS["test"].strip() == "nox -s test"
    assert BLOCKS["install"].strip() == "pip install -e ."
    assert BLOCKS["install-sim"].strip() == 'pip install -e ".[sim]"'
    assert {"lab", "test"} <= sessions_of_noxfile()
    for module in ("sim.processes.tour", "tests.bench"):
        assert f'"python", "-m", "{module}"' in (ROOT / "noxfile.py").read_text()
    assert TEXT.index(BLOCKS["test"]) < 1500, "both commands stand on the first screen"


def test_the_sessions_for_developers_exist() -> None:
    for line in BLOCKS["develop"].strip().splitlines():
        nox, option, session, *_ = line.split()
        assert (nox, option) == ("nox", "-s")
        assert session in sessions_of_noxfile()


def test_the_rows_shown_are_rows_of_the_lab() -> None:
    titles = [check.title for check in CHECKS]
    for row in BLOCKS["rows"].strip().splitlines():
        assert any(row.removeprefix("✓").strip().startswith(title) for title in titles), row


def test_the_load_commands_have_objectives_that_can_be_checked() -> None:
    for line in BLOCKS["load"].strip().splitlines():
        assert line.startswith("nox -s load")
    objectives = re.findall(r"--objective '([^']*)'", BLOCKS["load"])
    assert [parse_objective(text).text for text in objectives] == objectives
    assert "load" in sessions_of_noxfile()


@pytest.mark.e2e
def test_the_load_on_a_server_of_ones_own_runs_and_leaves_a_page(tmp_path: Path) -> None:
    install, line = BLOCKS["load-own"].strip().splitlines()
    assert install == 'pip install -e ".[load]"'
    with Command(BLOCKS["serve"].strip() + " --port {port}") as demo:
        command = line.replace("http://127.0.0.1:8080", demo.url).replace("-t 20s", "-t 5s")
        said = run(["bash", "-ec", command.replace("loadtests/", f"{ROOT}/loadtests/")], folder=tmp_path)
    assert "connects 10," in said
    assert "<svg" in (tmp_path / "load.html").read_text()


def test_the_page_s_commands_exist_and_its_pictures_are_there() -> None:
    bring, serve = BLOCKS["page"].strip().splitlines()
    assert bring == FETCH
    words = serve.removeprefix("python -m sim ").split()
    known = {option for parameter in simulator.commands[words[0]].params for option in parameter.opts}
    assert set(words[1:]) <= known
    pictures = re.findall(r"\]\((reports/[\w-]+\.png)\)", TEXT)
    assert len(pictures) == 3
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 100_000


@pytest.mark.e2e
@pytest.mark.node
def test_the_demo_serves_the_two_clients_shown(node_modules: Path, tmp_path: Path) -> None:
    with Command(BLOCKS["serve"].strip() + " --port {port}") as demo:
        token = run(["bash", "-ec", BLOCKS["token"]], folder=tmp_path).strip()
        (tmp_path / "client.py").write_text(BLOCKS["client"].replace("http://127.0.0.1:8080", demo.url))
        said = run([sys.executable, "client.py", token], folder=tmp_path)
        assert "online: ['ann']" in said
        assert "ann is typing" in said
        (tmp_path / "node_modules").symlink_to(node_modules)
        (tmp_path / "client.mjs").write_text(BLOCKS["browser"].replace("http://127.0.0.1:8080", demo.url))
        said = run([str(node_binary()), "client.mjs", token], folder=tmp_path)
        assert "online: [" in said
        assert said.strip().endswith("forbidden")
        for path in ("health", "ready"):
            with urllib.request.urlopen(f"{demo.url}/{path}", timeout=5) as answer:
                assert answer.status == 200


@pytest.mark.e2e
async def test_the_two_instances_shown_share_their_users_and_can_be_looked_at(
    redis_server: RedisServer, visit: Visit, tmp_path: Path
) -> None:
    lines = BLOCKS["fleet"].replace("redis://127.0.0.1:6379/0", redis_server.url).strip().splitlines()
    assert len(lines) == 2
    texts = [
        line.removesuffix(" &").replace("808" + str(number), "{port}") for number, line in enumerate(lines, 1)
    ]
    async with Command(texts[0]) as one, Command(texts[1]) as two:
        clients = []
        for user, instance in (("ann", one), ("bob", two)):
            token = create_token(user, DEMO_SECRET_KEY, expires_in=60)
            clients.append(visit(Kind("python", "websocket")))
            await clients[-1].connect(instance.url, {"token": token})
        for client in clients:
            await client.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        look = BLOCKS["inspect"].replace("redis://127.0.0.1:6379/0", redis_server.url)
        said = await asyncio.to_thread(run, ["bash", "-ec", look], folder=tmp_path)
        assert "2 users, 2 sessions, 2 instances" in said
        assert said.endswith("nothing looks wrong\n")


def test_the_configuration_shown_routes_to_the_instances_shown(tmp_path: Path) -> None:
    assert said_by(BLOCKS["balancer"], folder=tmp_path, status=0) == ""
    made = (tmp_path / "realtime.conf").read_text()
    started = re.findall(r"^REALTIME_INSTANCE_NAME=(\S+) .*--port (\d+)", BLOCKS["fleet"], re.MULTILINE)
    assert len(started) == 2
    for name, port in started:
        group = re.search(rf'"~\^{tag_of(name)}" (realtime_\w+);', made)
        assert group is not None
        assert f"upstream {group[1]} {{\n    server 127.0.0.1:{port} " in made


@pytest.mark.e2e
async def test_the_application_shown_mounts_the_layer_and_emits(visit: Visit, tmp_path: Path) -> None:
    text = BLOCKS["chat-serve"].replace("8080", "{port}")
    secret = "given by the test, so that it can sign tokens"
    export, serve = text.strip().splitlines()
    assert export.startswith("export WEBUI_SECRET_KEY=$(python -c ")
    made = run(["bash", "-ec", f"{export}\nprintf %s $WEBUI_SECRET_KEY"], folder=tmp_path)
    assert len(made) >= 32
    chat = Command(f"export WEBUI_SECRET_KEY='{secret}'\n{serve}")
    (chat.folder / "chat.py").write_text(BLOCKS["chat"])
    async with chat:
        client = visit(Kind("python", "websocket"))
        token = create_token("ann", secret, expires_in=60)
        await client.connect(chat.url, {"token": token})
        await client.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
        joined = await client.call("user-join", {"auth": {"token": token}})
        assert joined == {"id": "ann", "name": "Ann Ahlberg"}
        assert post(f"{chat.url}/answer/ann") == ["ann"]
        await client.wait_for("chat-events", lambda data: data["data"]["data"]["content"] == "ann")
        pieces = [data["data"]["data"]["content"] for data in client.of("chat-events")]
        assert pieces == ["Hello ", "ann"]
        assert {(data["chat_id"], data["message_id"]) for data in client.of("chat-events")} == {("c1", "m1")}


@pytest.mark.e2e
def test_the_race_of_the_guide_is_found_replayed_and_drawn_as_shown(tmp_path: Path) -> None:
    (tmp_path / "tally.py").write_text(BLOCKS["tally"])
    (tmp_path / "tally_races.py").write_text(BLOCKS["tally-races"])
    for block, status in (("race-run", 0), ("race-explore", 1), ("race-replay", 1)):
        said = said_by(BLOCKS[block], folder=tmp_path, status=status)
        assert without_numbers(said) == without_numbers(BLOCKS[f"{block}-says"]), said
    assert "both-online" in (tmp_path / "race.html").read_text()


@pytest.mark.e2e
def test_mended_as_the_guide_says_the_race_is_gone(tmp_path: Path) -> None:
    before, rest = BLOCKS["tally"].split("async def count", 1)
    _, after = rest.split("\n\n\n@sio.event\nasync def who", 1)
    mended = f"{before}{BLOCKS['tally-mended']}\n\n@sio.event\nasync def who{after}"
    (tmp_path / "tally.py").write_text(mended)
    (tmp_path / "tally_races.py").write_text(BLOCKS["tally-races"])
    said_by(BLOCKS["race-run"], folder=tmp_path, status=0)
    found = said_by(BLOCKS["race-explore"], folder=tmp_path, status=1)
    assert "\n    crash at " in found
    assert "\n    hold " not in found


@pytest.mark.e2e
def test_the_drawing_shown_is_made_by_the_commands_shown(tmp_path: Path) -> None:
    said_by(BLOCKS["drawing"], folder=tmp_path, status=0)
    shown = re.search(r"!\[.*?\]\((.*?\.svg)\)", TEXT)
    assert shown is not None
    for folder in (tmp_path, ROOT):
        drawing = (folder / shown[1]).read_text()
        assert drawing.startswith("<svg ")
        assert "user-pool-lost-update on naive" in drawing
        assert ">held for " in drawing


def test_the_simulator_s_commands_shown_exist_with_those_options() -> None:
    for line in BLOCKS["simulator"].strip().splitlines():
        words, _, told = line.removeprefix("python -m sim ").partition("#")
        command = simulator.commands[words.split()[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", words)) <= known, line
        assert set(re.findall(r"--[a-z]+", told)) <= known, line


def test_the_table_of_settings_is_complete_and_names_the_defaults() -> None:
    told = {code(setting)[0]: default for setting, default, _ in table("settings")}
    fields = {environment_name(name): field for name, field in Settings.model_fields.items()}
    assert told.keys() == fields.keys()
    for name, default in told.items():
        if name in ("WEBUI_SECRET_KEY", "REALTIME_INSTANCE_NAME"):
            continue
        value = fields[name].default
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        assert "".join(code(default)) == (text.lower() if isinstance(value, bool) else text), name


def test_settings_without_effect_are_marked_and_no_others() -> None:
    without = {
        environment_name(name)
        for name in Settings.model_fields
        if len(re.findall(rf"\b{name}\b", SOURCES)) < 2  # the one is its definition
    }
    marked = {code(setting)[0] for setting, _, meaning in table("settings") if "no effect yet" in meaning}
    assert marked == without


async def test_the_table_of_metrics_is_what_the_page_shows() -> None:
    server = RealtimeServer(load_settings(demo=True), MemoryDirectory())
    await server.start()
    try:
        text = generate_latest(registry_of(server)).decode()
    finally:
        await server.stop()
    shown = re.findall(r"^# HELP (realtime_\w+) (.*)\n# TYPE \1 (\w+)$", text, re.MULTILINE)
    told = table("metrics")
    assert [(*code(name), meaning, kind) for name, kind, _, meaning in told] == shown
    assert [tuple(code(labels)) for _, _, labels, _ in told] == [each.labels for each in METRICS]


def test_the_functions_shown_exist_with_those_parameters() -> None:
    for cell, _ in table("functions"):
        for call in code(cell):
            name, parameters = call.removesuffix(")").split("(")
            signature = inspect.signature(getattr(RealtimeServer, name))
            told = [each.partition("=")[0] for each in parameters.split(", ") if each]
            assert told == list(signature.parameters)[1:], name
