"""The app in a real pseudo-terminal whose other end goes away: it ends, and does not spin."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

LIMIT = 20.0


def open_app(folder: Path, *, ignore_hangup: bool) -> tuple[int, int]:
    """Process and terminal of an app that has drawn its first frame."""
    pid, terminal = pty.fork()
    if pid == 0:
        if ignore_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        environment = {**os.environ, "TERM": "xterm-256color", "COMPRESS_TUI_RUNS": str(folder / "runs")}
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-P", "-m", "tui.cli"], environment)
    seen = b""
    while b"help" not in seen:
        ready, _, _ = select.select([terminal], [], [], LIMIT)
        assert ready, "the app drew nothing"
        seen += os.read(terminal, 65536)
    return pid, terminal


def ended(pid: int) -> bool:
    """Whether the process ends within the limit."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found, _ = os.waitpid(pid, os.WNOHANG)
        if found:
            return True
        select.select([], [], [], 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_the_app_ends_when_its_terminal_goes(tmp_path: Path, ignore_hangup: bool) -> None:
    pid, terminal = open_app(tmp_path, ignore_hangup=ignore_hangup)
    os.close(terminal)
    assert ended(pid)
