"""Following a run: folding in, death, resuming, signals; glancing at one in a list."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any, cast

import pytest
from recorded import RECORDED, FakeProcess, MakeRun, append, kill

from engine import events as ev
from engine import runs
from tui import follow
from tui.follow import Follower, glance


def test_it_folds_in_only_what_is_new(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    follower = Follower(run)
    assert follower.poll()
    assert follower.state.status == "running"
    assert follower.state.layers["model.layers.0.self_attn.q_proj.weight"].sparsity == 0.5
    assert not follower.poll()
    append(run, ev.to_json(ev.Log(message="more", seq=10_000, time=1.0)))
    assert follower.poll()
    assert follower.state.log[-1].message == "more"


def test_a_half_written_line_waits(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    follower = Follower(run)
    follower.poll()
    line = ev.to_json(ev.Log(message="whole", seq=10_000))
    with run.events_file.open("a") as handle:
        handle.write(line[:20])
    assert not follower.poll()
    append(run, line[20:])
    assert follower.poll()
    assert follower.state.log[-1].message == "whole"


def test_a_long_run_is_read_in_pieces(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CHUNK", 4096)  # shorter than the line that lists the matrices
    follower = Follower(make_run("finished"))
    polls = 0
    while follower.poll():
        polls += 1
    assert polls > 5
    assert follower.state.status == "done"


def test_a_dead_worker_is_a_crash_with_its_last_words(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    follower = Follower(run)
    follower.poll()
    assert follower.going
    run.log_file.write_text("loading\nSegmentation fault\n")
    kill(run)
    assert follower.poll()
    assert follower.status == "crashed"
    assert follower.state.failure
    assert "Segmentation fault" in follower.state.failure.message
    assert not follower.going


def test_a_worker_that_dies_before_its_first_event(tmp_path: Path) -> None:
    run = runs.create("x", "")
    run.log_file.write_text("ImportError: no such thing\n")
    process = FakeProcess()
    follower = Follower(run, cast(Any, process))
    assert not follower.poll()
    assert follower.status == "starting"
    process.returncode = 1
    assert follower.poll()
    assert follower.status == "crashed"
    assert "ImportError" in str(follower.state.failure)


def test_a_deleted_folder_is_said(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    follower = Follower(run)
    follower.poll()
    shutil.rmtree(run.path)
    follower.poll()
    assert follower.state.failure
    assert follower.state.failure.message == "the run's folder is gone"


def test_resuming_shows_it_running_again(make_run: MakeRun) -> None:
    run = make_run("cancelled")
    follower = Follower(run)
    follower.poll()
    assert follower.status == "cancelled"
    follower.resumed_by(cast(Any, FakeProcess()))
    assert follower.going
    again = ev.RunStarted(run="r", profile="demo", source="demo", steps=["prune"], resumed=True, seq=10_000, time=2e9)
    append(run, ev.to_json(again))
    follower.poll()
    assert follower.state.status == "running"


def test_cancelling_gets_stronger(make_run: MakeRun, signals: list[int]) -> None:
    follower = Follower(make_run("running", alive=True))
    follower.poll()
    said = [follower.cancel() for _ in range(4)]
    assert signals == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]
    assert "{cancel} again" in said[0]


@pytest.mark.parametrize(
    ("recording", "alive", "status"),
    [
        ("running", True, "running"), ("running", False, "crashed"), ("finished", False, "done"),
        ("failed", False, "failed"), ("cancelled", False, "cancelled"),
    ],
)  # fmt: skip
def test_a_glance_tells_the_state(recording: str, alive: bool, status: str, make_run: MakeRun) -> None:
    seen = glance(make_run(recording, alive=alive))
    assert seen.status == status
    assert recording != "running" or seen.doing == "pruning 12/30"


@pytest.mark.parametrize("generator", ["record", "compressed"])
def test_the_recordings_are_what_the_generator_makes(generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECORDED))
    for name, text in importlib.import_module(generator).files().items():
        recorded = (RECORDED / name).read_text(encoding="utf-8")
        read = json.loads if name == "examples.jsonl" else ev.from_json  # fields newer than a recording have defaults
        assert [read(line) for line in recorded.splitlines()] == [read(line) for line in text.splitlines()], name
