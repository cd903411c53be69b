"""Minutes of a race, remembered over kills: what a stopped race was told is told again in the same order, so that it decides as
it did, and then goes on with what is left.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from engine import files


class Clock:
    """Laps, a line each in `file`; it runs from `start` on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._laps: list[float] = []
        if file.exists():
            whole, _, torn = file.read_text(encoding="utf-8").rpartition("\n")
            self._laps = [json.loads(line) for line in whole.splitlines()]
            if torn:  # by a kill: the lap is measured again
                files.write_text(file, whole + "\n" if whole else "")
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
            with self._file.open("a", encoding="utf-8") as laps:
                laps.write(f"{json.dumps(self._laps[-1])}\n")
        self._told, self._last = self._told + 1, now
        return self._laps[self._told - 1]
