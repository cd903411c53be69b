"""What a run's worker takes of this machine: memory and processor, looked at while it is followed."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import psutil

from engine.runs import Owner

KEPT = 60
"""moments that are shown"""


@dataclass(frozen=True)
class Usage:
    """At one moment: resident bytes, and processor time since the moment before as a share of one core."""

    memory: int
    cpu: float


class Meter:
    """Measures one worker after another; knows nothing of one on another host."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    def read(self, owner: Owner | None) -> Usage | None:
        """The worker's usage, None where it cannot be seen."""
        if owner is None or owner.host != socket.gethostname():
            return None
        try:
            if self._process is None or self._process.pid != owner.pid:
                self._process = psutil.Process(owner.pid)
                self._process.cpu_percent()  # starts the clock
                return None
            with self._process.oneshot():
                return Usage(self._process.memory_info().rss, self._process.cpu_percent() / 100)
        except psutil.Error:
            return None
