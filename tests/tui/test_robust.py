"""What must not break the app: deleted folders, clocks that jump, newer versions, long runs, dead workers."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import Any, cast

import pytest
from recorded import LARGE, SMALL, FakeProcess, MakeRun, app_on, append, kill, settle, words

from engine import events as ev
from engine import runs
from engine.curves import MOST
from engine.owners import Owner
from engine.state import LOG_LINES
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Reader

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


async def test_a_folder_that_is_deleted_while_open_is_said_on_every_screen(make_run: MakeRun) -> None:
    run = make_run("finished", alive=True)
    events = run.events_file.read_text().splitlines(keepends=True)
    run.events_file.write_text("".join(events[:-1]))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        shutil.rmtree(run.path)
        await settle(pilot)
        assert "the run's folder is gone" in words(app)
        for key in ("1", "3", "f", "j", "enter", "escape", "2", "tab", "r", "y", "o", "escape", "4", "2"):
            await pilot.press(key)
            await settle(pilot)
        assert isinstance(app.screen, WorkScreen)
        assert "✗ failed" in words(app)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
async def test_a_clock_that_jumps_shows_no_negative_time(jump: float, make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        then = (app.follower.state.updated or 0.0) + jump
        lines = [
            ev.LossMeasured(step=0, part="train", loss=loss, done=done, total=50, seq=5000 + done, time=then + done)
            for done, loss in enumerate([3.0, 2.5, float("nan"), 2.0], start=1)
        ]
        append(run, *map(ev.to_json, lines))
        app.now = lambda: then + 5.0
        await settle(pilot)
        shown = words(app)
        assert "training 4/50" in shown
        assert "-" not in {word[:1] for word in shown.split() if word[1:2].isdigit()}
        times = [at for at, _ in app.follower.state.history["training loss"]]
        assert len(times) == 3
        assert times == sorted(times)


async def test_events_of_a_newer_version_are_counted_and_do_no_harm(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    newer = {"schema": 9, "kind": "weather_changed", "seq": 5000, "time": 1.8e9, "sky": {"clouds": [1, 2]}}
    more = {"schema": 9, "kind": "log", "seq": 5001, "time": 1.8e9, "message": "with more fields", "colour": "blue"}
    append(run, json.dumps(newer), json.dumps(more))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert "unread 1 newer events" in " ".join(words(app).split())
        assert "with more fields" in words(app)


async def test_known_events_whose_fields_changed_are_counted_on_every_screen(make_run: MakeRun) -> None:
    run = make_run("finished", alive=True)
    lines = run.events_file.read_text().splitlines()
    first = {json.loads(line)["kind"]: json.loads(line) for line in reversed(lines)}
    changed = [{**record, field: {"of": ["another type"]}} for record in first.values()
               for field in record if field not in ("schema", "kind", "seq", "time", "summary")]  # fmt: skip
    ends = [{**record, "seq": seq} for seq, record in enumerate([*changed, json.loads(lines[-1])], start=5000)]
    run.events_file.write_text("".join(f"{line}\n" for line in lines[:-1]))
    append(run, *map(json.dumps, ends))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert app.follower.state.unknown == len(changed) > 50
        assert f"unread {len(changed)} newer" in " ".join(words(app).split())
        assert app.follower.status == "done"
        for key in ("1", "3", "4", "2", "R"):
            await pilot.press(key)
            await settle(pilot)
        assert isinstance(app.screen, Reader)
        assert f"{len(changed)} events of a newer version could not be read" in app.screen.text.plain


async def test_a_hundred_thousand_events_open_in_two_seconds_and_stay_bounded(make_run: MakeRun) -> None:
    run, most = make_run("running", alive=True), 100_000
    with run.events_file.open("a", encoding="utf-8") as handle:
        for n in range(1, most + 1):
            event: ev.Event = ev.Log(message=f"line {n}", seq=9000 + n, time=1.77e9 + n)
            if n % 2:
                event = ev.LossMeasured(
                    step=0, part="train", loss=1 / n, done=n, total=most, seq=9000 + n, time=1.77e9 + n
                )
            handle.write(ev.to_json(event) + "\n")
    app = app_on(run)
    began = time.process_time()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        took = time.process_time() - began
        state = app.follower.state
        assert state.log[-1].message == f"line {most}"
        assert "training 99999/100000" in words(app)
        assert len(state.log) == LOG_LINES
        assert all(len(points) < MOST for points in state.history.values())
    assert took < 4.0  # of processor time with the app's own start; about half on an idle machine


ENDS = {
    "killed from outside: signal 9, SIGKILL": (-9, ""),
    "crashed in native code: segmentation fault": (
        -11,
        "\n".join(["loading", "Fatal Python error: Segmentation fault", *(f"  File {n}" for n in range(8))]),
    ),
    "ran out of memory": (1, "torch.OutOfMemoryError: CUDA out of memory"),
}


@SIZES
@pytest.mark.parametrize("told", list(ENDS))
async def test_a_dead_worker_says_of_what_its_last_lines_and_how_to_go_on(
    told: str, size: tuple[int, int], make_run: MakeRun, started: list[tuple[runs.Run, bool]]
) -> None:
    run, (status, log) = make_run("running", alive=True), ENDS[told]
    process = FakeProcess()
    app = app_on(run)
    app.follower.process = cast(Any, process)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        run.log_file.write_text(log)
        process.returncode = status
        kill(run)
        await settle(pilot)
        shown = " ".join(words(app).split())
        assert "✗ crashed" in shown
        assert told in shown
        assert all(line.strip() in shown for line in log.splitlines()[-3:])
        assert "hint: r goes on with it here" in shown
        app.screen.activate(app.screen.query_one("#log-pane"))
        await settle(pilot)
        await pilot.press("enter")
        assert isinstance(app.screen, Reader)
        assert log in app.screen.text.plain
        await pilot.press("escape", "r")
        await settle(pilot)
        assert started == [(run, False)]


async def test_a_storm_of_resizes_ends_as_the_last_size_would_look(make_run: MakeRun) -> None:
    run = make_run("finished")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        calm = words(app)
        for width, height in ((40, 15), (300, 80), (50, 24), (119, 17), (20, 5), (160, 45), SMALL):
            await pilot.resize_terminal(width, height)
        await settle(pilot)
        await pilot.press("g")
        await settle(pilot)
        await pilot.resize_terminal(*SMALL)
        await settle(pilot)
        stormy = words(app)
    assert stormy.splitlines()[0] == calm.splitlines()[0]
    assert stormy.splitlines()[-1] == calm.splitlines()[-1]
    assert "Layers" in stormy


def test_setting_the_clock_does_not_make_a_living_worker_look_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "LINUX", True)  # elsewhere a process's start does not move with the clock
    owner, boot, create = Owner.this_process(), psutil.boot_time(), psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create(self) + 3600)
    assert owner.alive()
    assert not replace(owner, process_started=owner.process_started + 3600).alive()
