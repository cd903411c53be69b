"""The app in a pseudo-terminal: the test is the terminal, it reads what the app writes and writes what people do."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

LIMIT = 20.0


def open_app(folder: Path, *options: str, ignore_hangup: bool = False) -> tuple[int, int, bytes]:
    """Process and terminal of an app that has drawn its first frame, and all that it wrote so far."""
    pid, terminal = pty.fork()
    if pid == 0:
        if ignore_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        environment = {**os.environ, "TERM": "xterm-256color", "COMPRESS_TUI_RUNS": str(folder / "runs")}
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-P", "-m", "tui.cli", *options], environment)
    return pid, terminal, read_until(terminal, b"help")


def read_until(terminal: int, text: bytes) -> bytes:
    """What the app writes until `text` is in it."""
    seen = b""
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], LIMIT)
        assert ready, f"the app never wrote {text!r}"
        seen += os.read(terminal, 65536)
    return seen


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
