"""The most memory that this process has had, from the system; no torch."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_resident() -> int:
    """Bytes resident at most so far."""
    lines = STATUS.read_text().splitlines() if STATUS.is_file() else []
    for line in lines:  # a process that was forked from a large one has that one's peak in its resource usage
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
