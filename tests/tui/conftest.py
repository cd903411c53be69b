"""Run folders made from recorded events, two small models, and stand-ins for starting and signalling workers."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.folders import written
from recorded import FIRST, RECORDED, SECOND, FakeProcess, MakeRun, unseen, until_idle
from safetensors.numpy import load_file

from engine import runs
from engine.owners import Owner
from engine.stored import survey

PROFILE = '[model]\nsource = "demo"\n'


@pytest.fixture(autouse=True, scope="module")
def _collecting() -> Iterator[None]:
    """What the apps of a file leave is searched for garbage when all tests have ended.

    Other tests in this process, with large tensors, need garbage collected as often as ever.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot goes on when the app has nothing left to do, and not when the process takes little time for a while."""
    monkeypatch.setattr("textual.pilot.wait_for_idle", until_idle)
    monkeypatch.setattr("textual.app.wait_for_idle", until_idle)
    monkeypatch.setattr("textual.screen.UPDATE_PERIOD", 0.5)  # what waits for that is drawn by until_idle
    monkeypatch.setattr("textual._compositor.Compositor.render_update", unseen)


@pytest.fixture(autouse=True)
def _sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large model that is opened a part of every matrix is read; the models that tests make are smaller than that."""
    monkeypatch.setattr(survey, "BUDGET", 1)
    monkeypatch.setattr(survey, "LEAST", 1 << 10)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMPRESS_TUI_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run folder with recorded events; `alive` makes this test process its owner, `source` names another model."""

    def make(recording: str, *, alive: bool = False, name: str = "", source: str = "demo") -> runs.Run:
        path = tmp_path / "runs" / (name or f"20251124T160000-demo-{recording[:4]}")
        (path / "artifacts" / "prompts").mkdir(parents=True)
        (path / "checkpoints").mkdir()
        (path / "profile.toml").write_text(PROFILE)
        events = (RECORDED / f"{recording}.jsonl").read_text()
        (path / "events.jsonl").write_text(events.replace('"source": "demo"', f'"source": {json.dumps(source)}'))
        if recording == "finished":
            shutil.copy(RECORDED / "examples.jsonl", path / "artifacts" / "prompts")
        owner = asdict(Owner.this_process())
        (path / "state.json").write_text(json.dumps(owner if alive else {**owner, "process_started": 1.0}))
        return runs.Run(path)

    return make


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


@pytest.fixture
def dense() -> Path:
    """Two matrices of random values and one without any."""
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=(16, 32)).astype(np.float32) for name in (FIRST, SECOND)}
    return written(Path("dense").resolve(), {**tensors, "model.packed.weight": np.ones((4, 4), np.int32)})


@pytest.fixture
def pruned(dense: Path) -> Path:
    """The same with 2:4 zeros in the first matrix; the second has lost rows."""
    tensors = load_file(dense / "model.safetensors")
    tensors[FIRST][:, 0::4] = tensors[FIRST][:, 3::4] = 0
    return written(Path("pruned").resolve(), {FIRST: tensors[FIRST], SECOND: tensors[SECOND][:8]})
