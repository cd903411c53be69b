"""Few threads, no network and a known random state for everything that computes; workers to kill."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from fixtures.killing import Condition, Killing, kill_9

from engine import runs
from engine.eventfile import EventReader
from engine.runs import Run


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """Two threads at most; every test starts from the same random state."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    torch.manual_seed(0)


@pytest.fixture
def worker() -> Iterator[Callable[[Run, Condition], subprocess.Popen[bytes]]]:
    """Starts a detached worker and comes back when it has said what is waited for."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run: Run, until: Condition) -> subprocess.Popen[bytes]:
        reader = EventReader(run.events_file)
        reader.read()
        process = runs.start_detached(run)
        started.append(process)
        deadline = time.monotonic() + 60
        while not any(until(event) for event in reader.read()):
            assert time.monotonic() < deadline, run.log_tail()
            assert process.poll() is None, run.log_tail()
            time.sleep(0.002)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def killed(worker: Callable[[Run, Condition], subprocess.Popen[bytes]]) -> Killing:
    """Executes a run in a process of its own, which gets SIGKILL when it has said what is waited for. It is forked, which
    saves what a new one would import; CUDA does not allow that.
    """
    if not torch.cuda.is_available():
        return kill_9

    def end(run: Run, until: Condition) -> None:
        process = worker(run, until)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    return end
