"""Few threads, no network and a known random state for everything that computes; workers to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from fixtures.killing import Condition, Killing, check_killed, forked

from engine import runs
from engine.eventfile import EventReader
from engine.runs import Run


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """Two threads at most; every test starts from the same random state."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    torch.manual_seed(0)


def wait(reader: EventReader, until: Condition, run: Run, gone: Callable[[], bool]) -> None:
    """Until a run has said what is waited for; fails where its process is gone before."""
    deadline = time.monotonic() + 60
    while not any(until(event) for event in reader.read()):
        assert time.monotonic() < deadline, run.log_tail()
        assert not gone(), run.log_tail()
        time.sleep(0.002)


@pytest.fixture
def worker() -> Iterator[Callable[[Run, Condition], subprocess.Popen[bytes]]]:
    """Starts a detached worker and comes back when it has said what is waited for."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run: Run, until: Condition) -> subprocess.Popen[bytes]:
        reader = EventReader(run.events_file)
        reader.read()
        process = runs.start_detached(run)
        started.append(process)
        wait(reader, until, run, lambda: process.poll() is not None)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def killed(worker: Callable[[Run, Condition], subprocess.Popen[bytes]]) -> Killing:
    """Executes a run in a process of its own and sends it SIGKILL once it has said what is waited for. It is forked, which
    saves what a new one would import, and so computes with one thread; CUDA does not allow that.
    """

    def end(run: Run, until: Condition) -> None:
        if torch.cuda.is_available():
            process = worker(run, until)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            return
        assert "threads = 1\n" in run.profile_file.read_text()
        reader = EventReader(run.events_file)
        reader.read()
        child = forked(run)
        try:
            wait(
                reader, until, run, lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            )
        finally:
            os.kill(child, signal.SIGKILL)
            check_killed(run, child)

    return end
