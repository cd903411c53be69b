"""A terminal that people use over SSH: tmux with one pane, keys typed into it, what it shows as text."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 240.0
GLANCE = 0.1
"""seconds between two looks, each of which starts a process"""


def until(condition: Callable[[], object], told: Callable[[], str]) -> None:
    """Looks again and again until the condition holds; after PATIENCE seconds it fails with what `told` says."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, told()
        select.select([], [], [], GLANCE)


class Tmux:
    """A server of its own that listens on `socket`, with a shell in the working folder `at`."""

    def __init__(self, socket: Path, at: Path, size: tuple[int, int], **environment: str) -> None:
        self._socket = socket
        width, height = map(str, size)
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, "-c", str(at), "sh",
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )  # fmt: skip

    def press(self, *keys: str) -> None:
        """Keys as tmux names them; a word of several letters is typed."""
        self._tmux("send-keys", *keys)

    def type(self, line: str) -> None:
        """A line and enter."""
        self._tmux("send-keys", "-l", line)
        self.press("Enter")

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait(self, *texts: str) -> str:
        """The screen as soon as all the texts are on it."""
        seen = [""]

        def shown() -> bool:
            seen[0] = self.screen()
            return all(text in seen[0] for text in texts)

        until(shown, lambda: f"{texts} never stood together on\n{seen[0]}")
        return seen[0]

    def close(self) -> None:
        """The terminal goes away with all that runs in it and is no session of its own."""
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: str, env: dict[str, str] | None = None, check: bool = True) -> str:
        command = ["tmux", "-S", str(self._socket), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=check).stdout
