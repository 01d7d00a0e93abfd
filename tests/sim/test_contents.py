"""The index of reports/: it leads to what is there, draws what it says, and names no file that is missing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.__main__ import main
from sim.picture.contents import SHOWN, Entry, write_index

REPORTS = Path(__file__).resolve().parents[2] / "reports"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "cases").mkdir()
    for name in ("join-twice-naive.json", "token-expires-naive.json"):
        shutil.copy(REPORTS / "cases" / name, tmp_path / "cases")
    (tmp_path / "races.md").write_text("# Races & <others>\n\nText.\n")
    return tmp_path


@pytest.mark.explores
def test_it_leads_to_what_is_there_and_nowhere_else(reports: Path) -> None:
    text = write_index(reports, shown=["join-twice"]).read_text()
    assert re.findall(r'href="([^"]+)"', text) == ["pages/join-twice-naive.html", "races.md"]
    assert "Races &amp; &lt;others&gt;" in text
    assert "join-twice" in (reports / "pages/join-twice-naive.html").read_text()
    assert f"python -m sim replay {reports.as_posix()}/cases/token-expires-naive.json --html run.html" in text
    assert "Load" not in text
    assert "{{" not in text


def test_what_a_run_said_is_text() -> None:
    assert "<b>" not in Entry("x.html", "<b>", "it said <b>").html()


def test_a_case_that_no_longer_applies_is_told_with_status_3(reports: Path) -> None:
    path = reports / "cases" / "join-twice-naive.json"
    path.write_text(path.read_text().replace('"scenario": "join-twice"', '"scenario": "no-such-thing"'))
    done = CliRunner().invoke(main, ["index", "--reports", str(reports)])
    assert done.exit_code == 3
    assert "no-such-thing" in done.output


def test_the_races_that_are_drawn_are_kept_as_cases_and_pages() -> None:
    for name in SHOWN:
        assert (REPORTS / "cases" / f"{name}-naive.json").exists()
        assert (REPORTS / "pages" / f"{name}-naive.html").exists()


def test_the_index_that_is_kept_leads_to_every_report() -> None:
    text = (REPORTS / "index.html").read_text()
    for path in (*REPORTS.glob("*.md"), *REPORTS.glob("*.svg"), *REPORTS.glob("*.html")):
        assert path.name == "index.html" or f'href="{path.name}"' in text, path.name
