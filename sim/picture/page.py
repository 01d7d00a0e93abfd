"""The HTML page: one file that needs nothing else, asks no network, and shows whatever bytes a run sent as text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from sim.case import Case, versions
from sim.picture.layout import entry_words, lay_out, program
from sim.picture.order import overtaken
from sim.picture.recording import Recording, record_case


def write_page(path: Path, case: Case) -> None:
    """Runs a saved case and its undisturbed twin and draws both.

    Raises ``CaseError`` when the code has changed so that the case no longer applies.
    """
    recording, baseline = record_case(case)
    draw_page(path, recording, baseline if len(case.plan) or case.plan.jitter_seed is not None else None)


def draw_page(path: Path, recording: Recording, baseline: Recording | None = None) -> None:
    """Draws a run, and on the same axis of time another one to compare it with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(recording, baseline), encoding="utf-8")


def page(recording: Recording, baseline: Recording | None = None) -> str:
    style, script = _asset("picture.css"), _asset("picture.js")
    parts = {
        "title": html.escape(f"{recording.scenario.name} on {recording.target}"),
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'",
        "style": style,
        "script": script,
        "data": embedded(data(recording, baseline)),
    }
    # One pass: what was put in is not looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("picture.html"))


def data(recording: Recording, baseline: Recording | None = None) -> dict[str, Any]:
    """What the page's script draws: ``Layout`` as plain data, and what is told beside it."""
    layout = lay_out(recording, baseline)
    result = recording.result
    return {
        **asdict(layout),
        "scenario": recording.scenario.name,
        "about": recording.scenario.about,
        "target": recording.target,
        "seed": result.seed,
        "invariant": result.invariant,
        "message": result.message,
        "disturbance": [
            *({"name": hold.message, "seconds": hold.seconds, "text": ""} for hold in result.plan.holds),
            *({"name": fault.message, "seconds": 0, "text": str(fault)} for fault in result.plan.faults),
        ],
        "jitter": result.plan.jitter_seed,
        "skipped": len(result.plan.skips),
        "program": [
            {"at": entry.at, "who": entry.who, "what": entry.what, "text": entry_words(entry)}
            for entry in program(recording.history)
        ],
        "orders": [asdict(each) for each in overtaken(recording, baseline)] if baseline is not None else [],
        "versions": versions(),
    }


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends or opens a tag or a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (
        re.sub(r"[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)
        .encode(errors="replace")
        .decode()
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files("sim.picture") / name).read_text(encoding="utf-8")
