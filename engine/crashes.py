"""What a worker died of, as far as anybody can still tell: its exit status, its last words, the kernel's count of kills."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path

KERNEL = Path("/proc/vmstat")
FATAL = re.compile(
    r"Fatal Python error: (.+)|(Segmentation fault|Bus error|Illegal instruction|Floating point exception)"
)
MEMORY = re.compile(r"out of memory|MemoryError|std::bad_alloc|cannot allocate memory", re.IGNORECASE)
NATIVE = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


def memory_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since the boot; None where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", KERNEL.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def cause(log: Iterable[str], status: int | None = None, kills_before: int | None = None) -> str:
    """One line on why a worker ended without a final event.

    `log` are the last lines of its output, `status` its exit status where it is known (minus the signal, as of `Popen`),
    `kills_before` the kernel's count at its last sign of life.
    """
    lines = list(log)
    native = next((found for line in reversed(lines) if (found := FATAL.search(line))), None)
    if native:
        return f"the worker crashed in native code: {(native[1] or native[2]).lower()}"
    if status is not None and -status in NATIVE:
        return f"the worker crashed in native code: {_named(-status)}"
    if any(MEMORY.search(line) for line in lines):
        return "the worker ran out of memory"
    kills = memory_kills()
    if kills_before is not None and kills is not None and kills > kills_before:
        return "the worker was killed by the kernel: the machine or its control group ran out of memory"
    if status is not None and status < 0:
        return f"the worker was killed from outside: {_named(-status)}"
    if status:
        return f"the worker stopped with exit status {status}"
    return "the worker died without a word (killed with -9, or out of memory)"


def hint(told: str) -> str:
    """What to change before going on, "" where going on is all."""
    return "if memory ran out: lower calibration.samples, or set calibration.chunk" if "out of memory" in told else ""


def _named(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
