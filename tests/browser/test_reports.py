"""The pages of reports/ as people open them: the index, all it leads to, and a long run that stays smooth."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

REPORTS = Path(__file__).resolve().parents[2] / "reports"
LONG = "tests.browser.long_run:long-talk"
SMOOTH_MS = 100

ROUNDS = 5
"""A machine that does something else meanwhile is given as many."""

# Median of several, from an event until the page has been drawn again.
MEDIAN_MS = """async (act) => {
  const canvas = document.querySelector("#stage canvas");
  const box = canvas.getBoundingClientRect();
  const acts = {
    zoom: (turn) => canvas.dispatchEvent(new WheelEvent("wheel",
      { deltaY: turn % 2 ? 200 : -200, ctrlKey: true, clientX: box.x + 300, clientY: box.y + 300, cancelable: true })),
    filter: (turn) => {
      const search = document.querySelector("input[type=search]");
      search.value = turn % 2 ? "" : "news 123".slice(0, 1 + turn);
      search.dispatchEvent(new Event("input", { bubbles: true }));
    },
    hover: (turn) => canvas.dispatchEvent(new PointerEvent("pointermove",
      { clientX: box.x + 150 + 40 * turn, clientY: box.y + 200 + 30 * turn, bubbles: true })),
  };
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const took = [];
  for (let turn = 0; turn < 9; turn += 1) {
    await frame();
    const begun = performance.now();
    acts[act](turn);
    await frame();
    took.push(performance.now() - begun);
  }
  return took.sort((a, b) => a - b)[took.length >> 1];
}"""


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, faults: list[str]) -> Iterator[Page]:
    """A page that asks no network; what goes wrong in it is a fault."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda it: None if it.url.startswith("file:") else faults.append(it.url))
    yield page
    page.close()
    assert faults == []


def test_the_index_leads_to_every_race_to_the_load_and_to_the_reports(page: Page) -> None:
    page.goto((REPORTS / "index.html").as_uri())
    links = [link.get_attribute("href") or "" for link in page.locator("a").all()]
    assert {"load.html", "races.md", "chaos.md", "wire.md", "wire.svg"} <= set(links)
    assert all((REPORTS / link).exists() for link in links)
    races = [link for link in links if link.startswith("pages/")]
    assert len(races) >= 5
    for link in races:
        page.goto((REPORTS / link).as_uri())
        expect(page.locator("#verdict strong")).to_contain_text("broken")
        assert drawn(page)
    page.goto((REPORTS / "load.html").as_uri())
    assert page.locator("svg").count() > 0


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.html"
    # By its command: a browser's loop runs in this thread, and the simulator wants one of its own.
    command = [sys.executable, "-m", "sim", "run", LONG, "--target", "naive", "--html", str(path)]
    subprocess.run(command, cwd=REPORTS.parent, timeout=120, check=True)
    return path


@pytest.mark.parametrize("act", ["zoom", "filter", "hover"])
def test_a_page_of_two_thousand_messages_stays_smooth(act: str, page: Page, long_run: Path) -> None:
    page.goto(long_run.as_uri())
    found = re.search(r"(\d+) messages", page.locator("#facts").inner_text())
    assert found is not None
    assert int(found[1]) >= 2000
    page.get_by_role("button", name="Fit").click()  # all of them at once
    medians: list[float] = []
    while not medians or (medians[-1] >= SMOOTH_MS and len(medians) < ROUNDS):
        medians.append(page.evaluate(MEDIAN_MS, act))
    assert min(medians) < SMOOTH_MS, medians


def drawn(page: Page) -> bool:
    """Whether there is more than one colour on the canvas."""
    return bool(
        page.evaluate("""() => {
          const canvas = document.querySelector("#stage canvas");
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(new Uint32Array(pixels.buffer)).size > 10;
        }""")
    )
