"""Run folders made from recorded events, and the app on them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine import runs
from tui.app import CompressApp

RECORDED = Path(__file__).parent.parent / "fixtures" / "events"
SMALL, MIDDLE, LARGE = (80, 24), (120, 30), (160, 45)
MakeRun = Callable[..., runs.Run]
PROFILE = '[model]\nsource = "demo"\n'


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run folder with recorded events; `alive` makes this test process its owner."""

    def make(recording: str, *, alive: bool = False, name: str = "") -> runs.Run:
        path = tmp_path / "runs" / (name or f"20251124T160000-demo-{recording[:4]}")
        (path / "artifacts" / "prompts").mkdir(parents=True)
        (path / "checkpoints").mkdir()
        (path / "profile.toml").write_text(PROFILE)
        shutil.copy(RECORDED / f"{recording}.jsonl", path / "events.jsonl")
        if recording == "finished":
            shutil.copy(RECORDED / "examples.jsonl", path / "artifacts" / "prompts")
        owner = asdict(runs.Owner.this_process())
        (path / "state.json").write_text(json.dumps(owner if alive else {**owner, "process_started": 1.0}))
        return runs.Run(path)

    return make


class FakeProcess:
    """A worker that was started and does nothing."""

    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[runs.Run, bool]]:
    """Replaces starting a worker; lists the runs that would have been started and whether code was allowed."""
    seen: list[tuple[runs.Run, bool]] = []

    def start(run: runs.Run, *, allow_code: bool = False) -> Any:
        seen.append((run, allow_code))
        return FakeProcess()

    monkeypatch.setattr(runs, "start_detached", start)
    return seen


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces signalling the worker, which in these tests would be pytest."""
    seen: list[int] = []
    monkeypatch.setattr(runs, "send_signal", lambda run, signal: seen.append(int(signal)))
    return seen


def app_on(run: runs.Run | None = None, profile: str | None = None) -> CompressApp:
    return CompressApp(profile, run)


async def settle(pilot: Pilot[int]) -> None:
    """Waits for threads and pending messages, and lets the app look at its run once more."""
    app: Any = pilot.app
    await app.workers.wait_for_complete()
    await pilot.pause()
    app.tick()
    await app.workers.wait_for_complete()
    await pilot.pause()


def words(app: CompressApp) -> str:
    """What is on the screen, as text; a character is 12.2 wide in Textual's picture."""
    lines: dict[str, str] = {}
    found = re.findall(r'<text[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', app.export_screenshot())
    for x, y, text in found:
        lines[y] = lines.get(y, "").ljust(round(float(x) / 12.2)) + unescape(text).replace("\xa0", " ")
    return "\n".join(lines.values())


def notices(app: CompressApp) -> list[str]:
    return [notice.message for notice in app._notifications]


def append(run: runs.Run, *lines: str) -> None:
    with run.events_file.open("a", encoding="utf-8") as handle:
        handle.write("".join(f"{line}\n" for line in lines))


def kill(run: runs.Run) -> None:
    """Makes the run's owner a process that is gone."""
    owner = json.loads((run.path / "state.json").read_text())
    (run.path / "state.json").write_text(json.dumps({**owner, "process_started": 1.0, "pid": os.getpid()}))
