"""Two apps on one run: both follow it, one cancels and goes on with it, the other sees that; neither writes into it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import psutil
import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, append, notices, settle, words
from textual.pilot import Pilot

from engine import events as ev
from engine import runs
from engine.owners import Owner, started
from tui.app import CompressApp
from tui.follow import Follower

CANCELLED = ev.RunCancelled(seconds=1.0, seq=5000, time=1.8e9)
WORKER = """
import signal, sys

def stop(*_):
    with open(sys.argv[1], "a") as events:
        events.write(sys.argv[2] + "\\n")
    sys.exit(130)

signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def at_work(make_run: MakeRun) -> Iterator[tuple[runs.Run, subprocess.Popen[str]]]:
    """A run with a process at work on it that ends the run when it is asked to."""
    run = make_run("running")
    command = [sys.executable, "-c", WORKER, str(run.events_file), ev.to_json(CANCELLED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        process.stdout.readline()
        owns(run, process.pid)
        yield run, process
        process.kill()


def owns(run: runs.Run, pid: int) -> None:
    owner = replace(Owner.this_process(), pid=pid, process_started=started(psutil.Process(pid)))
    (run.path / "state.json").write_text(json.dumps(asdict(owner)))


def contents(run: runs.Run) -> dict[str, bytes]:
    return {str(file.relative_to(run.path)): file.read_bytes() for file in run.path.rglob("*") if file.is_file()}


async def press(app: CompressApp, pilot: Pilot[int], *keys: str) -> str:
    """What is on the screen of one of the apps after its keys."""
    with app._context():  # the one that the test's helpers wait for
        await pilot.press(*keys)
        await settle(pilot)
        return words(app)


def test_two_that_follow_come_to_the_same(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    one, two = Follower(run), Follower(run)
    for follower in (one, two):
        follower.poll()
    append(run, ev.to_json(CANCELLED))
    for follower in (two, one):
        follower.poll()
    assert one.state == two.state
    assert one.status == "cancelled"


async def test_one_cancels_and_the_other_sees_it_and_nothing_is_written_twice(
    at_work: tuple[runs.Run, subprocess.Popen[str]], started: list[tuple[runs.Run, bool]]
) -> None:
    run, process = at_work
    before = contents(run)
    one, two = app_on(run), app_on(run)
    async with one.run_test(size=SMALL) as first, two.run_test(size=LARGE) as second:
        for app, pilot in ((one, first), (two, second)):
            assert "▶ running" in await press(app, pilot)
        await press(one, first, "x")
        process.wait(timeout=10)
        assert "■ cancelled" in await press(two, second)
        assert "■ cancelled" in await press(one, first)
        await press(two, second, "x")
        assert notices(two)[-1] == "the run is not going: it is cancelled"
        told = f"{ev.to_json(CANCELLED)}\n".encode()
        assert contents(run) == before | {"events.jsonl": before["events.jsonl"] + told}

        await press(two, second, "r")
        append(run, ev.to_json(ev.RunStarted(run=run.name, profile="demo", source="demo", steps=["prune"], resumed=True,
                                             seq=5001, time=time.time())))  # fmt: skip
        owns(run, psutil.Process().pid)
        assert "▶ running" in await press(one, first)
        await press(one, first, "r")
        assert notices(one)[-1] == "the run is still going"
        assert started == [(run, False)], "one worker, though both were asked to go on"


async def test_both_may_cancel_and_the_run_is_told_of_each(
    at_work: tuple[runs.Run, subprocess.Popen[str]], signals: list[int]
) -> None:
    run, _ = at_work
    one, two = app_on(run), app_on(run)
    async with one.run_test(size=SMALL) as first, two.run_test(size=SMALL) as second:
        for app, pilot in ((one, first), (two, second)):
            assert "▶ running" in await press(app, pilot)
        await press(one, first, "x")
        await press(two, second, "x")
        assert signals == [signal.SIGINT, signal.SIGINT], "each begins with the mildest"
