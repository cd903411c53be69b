"""A run from start to result in a real terminal that is lost on the way."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tmux import Tmux, until

from engine import events as ev
from engine import runs
from engine.eventfile import EventReader

ROOT = Path(__file__).parents[2]
APP = shlex.join([sys.executable, "-P", "-m", "tui.cli"])
BLOCKS = 24
PROFILE = """name = "demo"
description = "half of a model of 24 small blocks"
[model]
source = "./model"
[calibration]
source = "stdlib"
samples = 4
length = 64
[evaluate]
perplexity = "stdlib"
windows = 2
length = 64
speed = false
[[step]]
use = "prune"
criterion = "admm"
iterations = 100
sparsity = 0.5
[[step]]
use = "export"
format = "safetensors"
"""
OpenTerminal = Callable[[], Tmux]

pytestmark = [pytest.mark.long, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The working folder, with the profile demo on a small model."""
    sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
    import models

    models.save("llama", tmp_path / "work" / "model", num_hidden_layers=BLOCKS, hidden_size=64, intermediate_size=128)
    (tmp_path / "work" / "demo.toml").write_text(PROFILE)
    return tmp_path / "work"


@pytest.fixture
def terminal(work: Path) -> Iterator[OpenTerminal]:
    """Opens terminals of 80x24; whatever a test leaves open or going is ended with it."""
    opened: list[Tmux] = []
    with tempfile.TemporaryDirectory() as sockets:  # their paths may not be long

        def start() -> Tmux:
            socket = Path(sockets) / str(len(opened))  # not that of a server that is still ending
            opened.append(Tmux(socket, work, (80, 24), PYTHONPATH=str(ROOT)))
            return opened[-1]

        yield start
        for one in opened:
            one.close()
    for run in runs.list_runs():
        if run.alive():
            runs.send_signal(run, signal.SIGKILL)


def pruned(run: runs.Run) -> int:
    """How many matrices the run has pruned so far."""
    return sum(isinstance(event, ev.LayerPruned) for event in EventReader(run.events_file).read())


def hold(run: runs.Run, at_least: int) -> int:
    """Lets the worker prune some more matrices and stand still, so that nothing after that is a race. Returns how many."""
    owner = run.owner()
    assert owner
    os.kill(owner.pid, signal.SIGCONT)
    until(lambda: pruned(run) >= at_least, lambda: f"pruned {pruned(run)}: {run.log_tail()}")
    os.kill(owner.pid, signal.SIGSTOP)
    until(
        lambda: psutil.Process(owner.pid).status() == psutil.STATUS_STOPPED, run.log_tail
    )  # what it writes is written
    return pruned(run)


def go_on(run: runs.Run) -> None:
    owner = run.owner()
    assert owner
    os.kill(owner.pid, signal.SIGCONT)


def test_a_run_survives_its_terminal_and_is_cancelled_resumed_and_read(terminal: OpenTerminal) -> None:
    window = terminal()
    window.type(f"{APP} --profile ./demo.toml")
    window.wait("1 Inspect", "demo", "valid", "? help")
    window.press("Enter")
    until(lambda: [run for run in runs.list_runs() if run.owner()], window.screen)
    (run,) = runs.list_runs()

    first = hold(run, 3)  # the layers fill
    window.wait("running", f"{first} of {7 * BLOCKS}", "self_attn.q_proj", "50.0%")
    second = hold(run, first + 3)
    window.wait(f"{second} of {7 * BLOCKS}")

    window.press("d")  # the app goes, the run does not
    window.wait(f"the run goes on: compress-tui attach {run.name}")
    assert run.alive()

    window.type(f"{APP} attach {run.name}")
    window.wait("running", f"{second} of {7 * BLOCKS}")
    window.close()  # the connection drops
    assert run.alive()

    window = terminal()
    window.type(f"{APP} attach last")
    window.wait("running", f"{second} of {7 * BLOCKS}")
    window.press("x")
    window.wait("asked the run to stop")
    go_on(run)
    window.wait("■ cancelled")
    until(lambda: not run.alive(), window.screen)  # it says so before it ends
    kept = pruned(run)
    assert second <= kept < 7 * BLOCKS

    window.press("r")
    window.wait("✓ done  perplexity", "✓ export", f"{7 * BLOCKS} of {7 * BLOCKS} · sparse 50.0%")
    window.press("Tab", "Tab", "Tab")
    window.wait("Figures ─", "exported", "perplexity")
    assert "exported" in (run.path / "report.md").read_text()
    window.press("q")
    until(lambda: "? help" not in window.screen(), window.screen)
