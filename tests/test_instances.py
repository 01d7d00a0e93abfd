"""Instances are started ready, told what to use, watched, and ended; tried with a stand-in for the layer."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import psutil
import pytest

from sim.processes.instances import SECRET_KEY, Fleet, Instance
from sim.processes.process import ProcessError, free_port

STAND_IN = "tests.support.stand_in"


def about(instance: Instance) -> dict[str, Any]:
    with urllib.request.urlopen(f"{instance.url}/about", timeout=5) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def test_an_instance_is_ready_when_started_and_gone_when_closed() -> None:
    with Instance(module=STAND_IN) as instance:
        assert instance.ready()
        assert "listening" in instance.log
        assert instance.cpu_seconds() > 0
        pid = instance.pid
    assert not psutil.pid_exists(pid)


def test_an_instance_is_told_what_to_use_and_nothing_of_the_machines_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_KEY_PREFIX", "the owner's")
    with Instance(
        redis_url="redis://127.0.0.1:1/0", database_url="sqlite:///x", demo=True, module=STAND_IN
    ) as one:
        told = about(one)
    assert told["redis_url"] == "redis://127.0.0.1:1/0"
    assert told["database_url"] == "sqlite:///x"
    assert told["demo"] is True
    assert told["WEBUI_SECRET_KEY"] == SECRET_KEY
    assert "REDIS_KEY_PREFIX" not in told


def test_settings_reach_the_instance() -> None:
    with Instance(
        settings={"REDIS_KEY_PREFIX": "ours", "WEBUI_SECRET_KEY": "k"}, module=STAND_IN
    ) as instance:
        told = about(instance)
        assert instance.secret_key == "k"
    assert (told["REDIS_KEY_PREFIX"], told["WEBUI_SECRET_KEY"], told["redis_url"]) == ("ours", "k", None)


def test_an_instance_that_ends_while_starting_says_what_it_wrote() -> None:
    instance = Instance(settings={"STAND_IN": "broken"}, module=STAND_IN)
    with pytest.raises(ProcessError, match=r"exit status 1(.|\n)*WEBUI_SECRET_KEY is too short"), instance:
        pass


def test_a_killed_instance_starts_again_on_its_port() -> None:
    with Instance(module=STAND_IN) as instance:
        port, pid = instance.port, instance.pid
        instance.kill()
        assert not instance.ready()
        instance.start()
        assert (instance.port, instance.pid != pid) == (port, True)
        assert instance.ready()


def test_sigterm_ends_an_instance_even_when_it_is_paused() -> None:
    with Instance(port=free_port(), module=STAND_IN) as instance:
        instance.pause()
        assert instance.terminate() == -15


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(ProcessError, match="there is no package nowhere"), Instance(module="nowhere"):
        pass


async def test_a_fleet_shares_redis_and_database_and_ends_together() -> None:
    async with Fleet(2, redis_url="redis://127.0.0.1:1/0", module=STAND_IN) as fleet:
        told = [about(instance) for instance in fleet.instances]
        assert told[0]["port"] != told[1]["port"]
        assert told[0]["database_url"] == told[1]["database_url"]
        assert await fleet.terminate() == [-15, -15]
