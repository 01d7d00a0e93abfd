"""`python -m realtime balancer`: what it prints, which mistakes it refuses, and that the balancers take it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from realtime import __main__ as command
from realtime.tags import tag_of
from sim.processes.balancers import find_binary

TWO = ("--instance", "api-1=10.0.0.1:8080", "--instance", "api-2=10.0.0.2:8080")
ONE, OTHER = tag_of("api-1"), tag_of("api-2")


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        command.main, ("balancer", *arguments), env=environment, prog_name="python -m realtime"
    )


def printed(*arguments: str, **environment: str) -> str:
    result = call(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", ["nginx", "haproxy", "tags"])
def test_it_needs_no_key_no_redis_and_no_running_instance(kind: str) -> None:
    text = printed(kind, *TWO, WEBUI_SECRET_KEY="", WEBSOCKET_MANAGER="nonsense")
    for word in (ONE, OTHER, "10.0.0.1:8080", "10.0.0.2:8080", "api-1", "api-2"):
        assert word in text


def test_the_tags_alone_are_for_any_other_balancer() -> None:
    assert printed("tags", *TWO) == f"{ONE} 10.0.0.1:8080 api-1\n{OTHER} 10.0.0.2:8080 api-2\n"


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_configuration_says_how_it_was_made_and_how_instances_are_to_be_started(kind: str) -> None:
    text = printed(kind, *TWO, "--instance", "api-3/mytag001=[::1]:80", "--listen", "8000")
    assert text.startswith(f"# Made by: python -m realtime balancer {kind} --instance api-1=10.0.0.1:8080 ")
    assert "#   REALTIME_INSTANCE_NAME=api-1  at 10.0.0.1:8080\n" in text
    assert "#   REALTIME_INSTANCE_NAME=api-3 REALTIME_INSTANCE_TAG=mytag001  at [::1]:80\n" in text


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_it_waits_longer_than_an_instance_waits_for_a_pong(kind: str) -> None:
    def waits(**environment: str) -> set[int]:
        text = printed(kind, *TWO, **environment)
        said = re.findall(
            r"^ +(?:timeout (?:server|client|tunnel)|proxy_read_timeout) (\d+)s;?$", text, re.MULTILINE
        )
        assert said
        return set(map(int, said))

    assert waits() == {60}
    assert waits(WEBSOCKET_SERVER_PING_INTERVAL="100.5", WEBSOCKET_SERVER_PING_TIMEOUT="60") == {176}


def test_nginx_lets_bodies_through_that_an_instance_takes() -> None:
    assert "client_max_body_size 1000000;" in printed("nginx", *TWO)
    assert "client_max_body_size 5000000;" in printed("nginx", *TWO, REALTIME_MAX_PAYLOAD_BYTES="5000000")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("apache",), "apache"),
        (("nginx", "--instance", "api-1"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=host"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=host:0"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=host:65536"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=::1:80"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=[::::]:80"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "api-1=h;} evil:80"), "NAME=HOST:PORT"),
        (("nginx", "--instance", "a b=host:80"), "a name is"),
        (("nginx", "--instance", "=host:80"), "a name is"),
        (("nginx", "--instance", "a/Tag=host:80"), "a tag is 8"),
        (("nginx", "--instance", "a=h:1", "--instance", "a=h:2"), "the name a is given 2 times"),
        (("nginx", "--instance", "a=h:1", "--instance", "b=h:1"), "the address h:1 is given 2 times"),
        (("nginx", "--instance", "a=h:1", "--instance", "b=h:01"), "the address h:1 is given 2 times"),
        (("nginx", "--instance", "a=h:1", "--instance", f"b/{tag_of('a')}=h:2"), "REALTIME_INSTANCE_TAG"),
        (("nginx", "--listen", "80;"), "HOST:PORT"),
        (("nginx", "--listen", "h:0"), "HOST:PORT"),
        (("nginx", "--listen", "[1]:80"), "HOST:PORT"),
        (("nginx", "--ping-interval", "soon"), "--ping-interval"),
    ],
)
def test_a_mistake_ends_with_status_2_and_says_what_is_wanted(arguments: Sequence[str], told: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


MANY = [word for each in range(200) for word in ("--instance", f"api-{each}=[2001:db8::{each + 1:x}]:8080")]


@pytest.mark.parametrize("listen", ["8099", "127.0.0.1:8099", "[::1]:8099"])
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_the_balancer_itself_finds_the_configuration_right(kind: str, listen: str, tmp_path: Path) -> None:
    check(kind, printed(kind, *TWO, "--instance", "api-3=[::1]:81", "--listen", listen), tmp_path)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_the_balancer_itself_has_room_for_many_instances(kind: str, tmp_path: Path) -> None:
    check(kind, printed(kind, *MANY, "--listen", "8099"), tmp_path)


def check(kind: str, configuration: str, folder: Path) -> None:
    binary = find_binary(kind)
    if binary is None:
        pytest.skip(f"not run: {kind}'s own check of the configuration ({kind} is not installed)")
    made = folder / "realtime.conf"
    made.write_text(configuration)
    words = [binary, "-c", "-f", str(made)]
    if kind == "nginx":
        main = folder / "nginx.conf"
        main.write_text(f"pid {folder}/pid;\nevents {{}}\nhttp {{ access_log off; include {made}; }}\n")
        words = [binary, "-t", "-p", str(folder), "-c", str(main), "-e", "stderr"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
