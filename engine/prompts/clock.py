"""Minutes of a race, remembered over kills: what a stopped race was told is told again in the same order, so that it decides as
it did, and then goes on with what is left.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from engine import files, runs


class Clock:
    """Laps, kept in `file`; it runs from `start` on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._laps: list[float] = runs.read_json(file) or []
        self._told = 0
        self._last: float | None = None

    def start(self) -> None:
        """Once; later calls change nothing."""
        if self._last is None:
            self._last = time.monotonic()

    def lap(self) -> float:
        """Minutes since the lap before or the start: those of an earlier process first."""
        assert self._last is not None
        now = time.monotonic()
        if self._told == len(self._laps):
            self._laps.append((now - self._last) / 60)
            files.write_text(self._file, json.dumps(self._laps))
        self._told, self._last = self._told + 1, now
        return self._laps[self._told - 1]
