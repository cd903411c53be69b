"""The queue on the screen: a run is queued by key and by command, seen waiting, opened, and taken out again."""

from __future__ import annotations

import signal
import sys
from io import StringIO

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, append, kill, notices, settle, words

from engine import events as ev
from engine import queueing, runs
from engine.errors import UsageError
from tui.cli import main
from tui.screens.runs import RunsDialog
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
Started = list[tuple[runs.Run, bool]]


def queued(make_run: MakeRun, *ahead: str) -> runs.Run:
    """A run whose worker waits."""
    run = make_run("running", alive=True, name="20251124T170000-edge-aa11")
    run.events_file.write_text("")
    (run.path / queueing.MARK).write_text("1.0")
    waits = ev.RunQueued(run=run.name, profile="edge", source="demo", steps=["prune"], ahead=list(ahead), seq=1, time=1)
    append(run, ev.to_json(waits))
    return run


@SIZES
async def test_a_profile_is_queued_after_the_run_that_is_going(
    size: tuple[int, int], make_run: MakeRun, started: Started
) -> None:
    going = make_run("running", alive=True)
    app = app_on(going)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        await pilot.press("Q")
        await settle(pilot)
        ((run, _),) = started
        assert (run.path / queueing.MARK).exists()
        assert notices(app)[-1] == f"queued after {going.name}: o lists the runs"
        assert app.current_mode == "profiles"
        assert app.follower.run == going


async def test_with_nothing_before_it_it_is_shown_at_once(started: Started) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon", *"queue", "space", *"demo", "enter")
        await settle(pilot)
        ((run, _),) = started
        assert app.follower.run == run
        assert app.current_mode == "run"


@SIZES
async def test_a_queued_run_says_whom_it_waits_for(size: tuple[int, int], make_run: MakeRun) -> None:
    going = make_run("running", alive=True)
    run = queued(make_run, going.name)
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        shown = words(app)
        assert "○ queued  after demo-runn" in shown
        assert "waits until those before it have ended" in " ".join(shown.replace("│", " ").split())
        assert app.why_not("cancel") is None
        append(
            run, ev.to_json(ev.RunStarted(run=run.name, profile="edge", source="demo", steps=["prune"], seq=2, time=2))
        )
        await settle(pilot)
        assert "after demo-runn" not in words(app)
        assert "▶ running" in words(app)


async def test_a_waiting_worker_that_dies_is_a_crash(make_run: MakeRun) -> None:
    run = queued(make_run, "other-1", "other-2")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert "after 2 runs" in words(app)
        kill(run)
        await settle(pilot)
        assert "✗ crashed" in words(app)
        assert "after 2 runs" not in words(app)
        assert app.why_not("resume") is None


@SIZES
async def test_the_list_shows_the_queue_and_takes_a_run_out_of_it(
    size: tuple[int, int], make_run: MakeRun, signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    going, ended = make_run("running", alive=True), make_run("finished")
    run = queued(make_run, going.name)
    app = app_on(ended)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        assert isinstance(app.screen, RunsDialog)
        first, second, *_ = [line for line in words(app).splitlines() if "2025112" in line]
        assert ("○ queued" in first, "after demo-runn" in first) == (True, True)
        assert "▶ running" in second
        await pilot.press("x")
        assert signals == [signal.SIGINT]
        assert notices(app)[-1] == f"asked {run.name} to stop"
        append(run, ev.to_json(ev.RunCancelled(seconds=1.0, seq=2, time=2)))
        app.screen.load()
        await settle(pilot)
        assert app.screen.query_one(LiveTable).selected == run.name
        assert "■ cancelled" in next(line for line in words(app).splitlines() if run.name in line)

        def nobody(run: runs.Run, number: int) -> None:
            raise UsageError("nobody is working on this run")

        monkeypatch.setattr(runs, "send_signal", nobody)
        await pilot.press("x")
        assert notices(app)[-1] == "nobody is working on this run"


@SIZES
async def test_the_list_moves_a_run_in_the_queue(size: tuple[int, int], make_run: MakeRun) -> None:
    going = make_run("running", alive=True)
    first = queued(make_run, going.name)
    second = make_run("running", alive=True, name="20251124T180000-edge-bb22")
    (second.path / queueing.MARK).write_text("2.0")
    app = app_on(going)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        app.screen.target.select(second.name)
        await pilot.press("K")
        await settle(pilot)
        assert notices(app)[-1] == f"before {first.name}"
        assert queueing.ahead(second) == [going]
        assert queueing.ahead(first) == [going, second]
        await pilot.press("K")
        assert notices(app)[-1] == "it is the first in the queue"
        await pilot.press("shift+down")
        await settle(pilot)
        assert notices(app)[-1] == f"after {first.name}"
        assert queueing.ahead(second) == [going, first]
        app.screen.target.select(going.name)
        await pilot.press("J")
        assert "does not wait in the queue" in notices(app)[-1]


def test_the_shell_queues_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], started: Started, make_run: MakeRun
) -> None:
    make_run("running", alive=True)
    monkeypatch.setattr(sys, "stdin", StringIO("queue demo step.0.sparsity=0.3\nqueue demo\n"))
    assert main(["shell"]) == 0
    first, second = (run for run, _ in started)
    assert f"queued: attach {second.name}" in capsys.readouterr().err
    assert "sparsity = 0.3" in first.profile_file.read_text()
    assert (first.path / queueing.MARK).exists()


async def test_the_list_says_how_many_runs_there_are_besides(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.runs.MOST", 2)
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        for number, title in ((2, "Runs"), (3, "Runs · the newest 2 of 3")):
            make_run("failed", name=f"20251124T16000{number}-other-aaa{number}")
            await settle(pilot)
            await pilot.press("o")
            await settle(pilot)
            assert str(app.screen.query_one(".dialog").border_title) == title
            await pilot.press("escape")
