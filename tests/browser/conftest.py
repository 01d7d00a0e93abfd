"""The demo's page behind a balancer, two instances and a Redis of the tests' own, and a browser to look at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from realtime.demo.fetch import BundleMissing, fetch
from sim.processes.balancers import SmallBalancer
from sim.processes.instances import Fleet, Instance
from sim.processes.process import LOOPBACK
from sim.processes.redis import RedisServer
from tests.browser.person import Person
from tests.support.chromium import MISSING, find_chromium

Arrive = Callable[..., Person]

# As generous as a busy machine needs; what is awaited comes within milliseconds.
expect.set_options(timeout=15_000)


class Ground:
    """Two instances over one Redis, and a balancer."""

    def __init__(self, redis: RedisServer) -> None:
        self.fleet = Fleet(2, redis_url=redis.url, demo=True, settings={"WEBUI_SECRET_KEY": ""})

    @property
    def instances(self) -> list[Instance]:
        return self.fleet.instances

    def balancer(self) -> SmallBalancer:
        return SmallBalancer({each.name: f"{LOOPBACK}:{each.port}" for each in self.instances})


@pytest.fixture(scope="session")
def ground(redis_binary: Path) -> Iterator[Ground]:
    try:
        fetch()
    except BundleMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    with RedisServer(binary=redis_binary, name="redis-browser") as redis:
        made = Ground(redis)
        with made.fleet:
            yield made
            for instance in made.instances:
                assert "Traceback" not in instance.log, instance.log
                assert " ERROR " not in instance.log, instance.log


@pytest.fixture(scope="session")
def balancer(ground: Ground) -> Iterator[SmallBalancer]:
    with ground.balancer() as balancer:
        yield balancer


# Not for the session: while it is there, a loop runs in this thread, and no test with a loop of its own could.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(f"not run: the page in a browser ({MISSING})")
    # Chromium's sandbox refuses to be root's.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def pictures(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """Where screenshots go: reports/ if they were asked for."""
    return pytestconfig.rootpath / "reports" if pytestconfig.getoption("--save-screenshots") else tmp_path


@pytest.fixture
def arrive(browser: Browser, balancer: SmallBalancer) -> Iterator[Arrive]:
    """Lets somebody in, by default through the balancer; with `like`, in another tab of the same browser. At the end
    no tab may have had a fault."""
    people: list[Person] = []
    contexts: list[BrowserContext] = []

    def come(name: str, url: str = balancer.url, *, like: Person | None = None, **options: object) -> Person:
        if like is None:
            contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
        people.append(Person(contexts[-1] if like is None else like.context, url, name))
        return people[-1].sign_in()

    yield come
    for person in people:
        if not person.page.is_closed():
            person.page.goto("about:blank")  # so that nobody who polls is still online in the next test
    for context in contexts:
        context.close()
    assert [fault for person in people for fault in person.faults] == []
