"""Runs in the background, for real: they outlive the terminal, can be watched, cancelled, killed and resumed.

The worked example takes seconds; most of them are the import of torch, and that is when the blows fall.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import runs
from engine.runs import Run

PROGRAM = [sys.executable, "-P", "-m", "tui.cli"]
LIMIT = 120.0


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=LIMIT)


def detached() -> Run:
    """A run of the worked example, in the background and at work."""
    done = program("run", "--detach", "--profile", "worked-example")
    assert done.returncode == 0, done.stderr
    run = runs.find(done.stdout.strip())
    assert done.stderr == f"hint: compress-tui attach {run.name}\n"
    assert run.alive()
    return run


def ended(run: Run) -> str:
    """Waits for the worker's end. Returns the run's status."""
    deadline = time.monotonic() + LIMIT
    while run.alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run.state().status


def own_terminal() -> None:
    """In the child: a session of its own whose terminal is stdin."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's way is inherited
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_until(master: int, word: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + LIMIT
    while word not in seen:
        ready, _, _ = select.select([master], [], [], deadline - time.monotonic())
        assert ready, seen
        seen += os.read(master, 4096)
    return seen


def test_a_run_outlives_its_terminal() -> None:
    master, slave = pty.openpty()
    command = f"{' '.join(PROGRAM)} run --detach --profile worked-example; exec sleep 300"
    shell = subprocess.Popen(
        ["bash", "-c", command], stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal
    )  # fmt: skip
    os.close(slave)
    read_until(master, b"compress-tui attach")
    (run,) = runs.list_runs()
    assert run.state().status == "running"
    os.close(master)
    assert shell.wait(LIMIT) == -signal.SIGHUP
    assert run.alive()

    watched = program("attach", run.name, "--plain")
    assert watched.returncode == 0, watched.stderr
    assert "✓ done" in watched.stderr
    assert run.state().status == "done"
    assert ended(run) == "done"


@pytest.mark.parametrize(("prepare", "code", "status"), [(own_terminal, 130, "cancelled"), (os.setsid, 0, "done")])
def test_a_terminal_that_closes_stops_its_own_run_safely_and_no_other(
    prepare: Callable[[], None], code: int, status: str
) -> None:
    """The second one only writes there, as one that was disowned."""
    master, slave = pty.openpty()
    command = [*PROGRAM, "run", "--profile", "worked-example"]
    worker = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=prepare)
    os.close(slave)
    read_until(master, b"\n")
    os.close(master)
    assert worker.wait(LIMIT) == code
    (run,) = runs.list_runs()
    assert run.state().status == status
    assert program("run", "--resume", "--run-dir", run.name).returncode == 0
    assert run.state().status == "done"


def test_a_cancelled_run_is_kept_and_resumed() -> None:
    run = detached()
    assert program("cancel", run.name).returncode == 0
    assert ended(run) == "cancelled"
    assert program("attach", run.name, "--plain").returncode == 130

    resumed = program("run", "--resume", "--run-dir", run.name, "--detach")
    assert resumed.returncode == 0, resumed.stderr
    assert program("attach", run.name, "--plain").returncode == 0


def test_a_killed_run_is_crashed_and_resumed() -> None:
    run = detached()
    owner = run.owner()
    assert owner
    os.kill(owner.pid, signal.SIGKILL)
    assert ended(run) == "failed"
    assert "✗ crashed" in program("runs").stdout

    resumed = program("run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert run.state().status == "done"


def test_a_run_goes_on_when_nobody_reads_its_events() -> None:
    command = f"{' '.join(PROGRAM)} run --profile worked-example --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["run_started"]
    assert runs.list_runs()[0].state().status == "done"


def test_the_first_event_does_not_wait_for_torch() -> None:
    began = time.time()
    run = detached()
    assert run.events()[0].time - began < 5.0  # generous: other tests share the machine
    program("cancel", run.name)
    ended(run)


def test_queued_runs_outlive_their_terminal_and_a_killed_one_holds_up_nobody() -> None:
    before = runs.create("before", "")
    with runs.lock(before):
        names = [program("run", "--queue", "--detach", "--profile", "worked-example").stdout.strip() for _ in range(2)]
        first, last = map(runs.find, names)
        assert last.events()[0].ahead == [before.name, first.name]
        assert "○ queued" in program("runs").stdout
        owner = first.owner()
        assert owner
        os.kill(owner.pid, signal.SIGKILL)
    assert program("attach", last.name, "--plain").returncode == 0
    assert [event.ahead for event in last.events() if event.kind == "run_queued"][0] == [before.name, first.name]
    assert ended(last) == "done"
    assert "✗ crashed" in program("runs").stdout


def test_a_run_elsewhere_cannot_be_queued(tmp_path: Path) -> None:
    done = program("run", "--queue", "--profile", "worked-example", "--run-dir", str(tmp_path / "own"))
    assert done.returncode == 2
    assert "queued runs are in the runs folder" in done.stderr
    assert not (tmp_path / "own").exists()
