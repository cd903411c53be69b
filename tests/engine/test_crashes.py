"""What a dead worker's end is taken for, and that real ends are told apart."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import crashes


@pytest.mark.parametrize(
    ("log", "status", "told"),
    [
        ("loading\nFatal Python error: Segmentation fault\n\nCurrent thread", -11, "native code: segmentation fault"),
        ("", -signal.SIGABRT, "native code: signal 6, SIGABRT"),
        ("MemoryError", 1, "ran out of memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", None, "ran out of memory"),
        ("", -signal.SIGKILL, "killed from outside: signal 9, SIGKILL"),
        ("ImportError: no such thing", 1, "stopped with exit status 1"),
        ("", None, "died without a word (killed with -9, or out of memory)"),
        ("", -99, "killed from outside: signal 99"),
    ],
)
def test_ends_are_told_apart(log: str, status: int | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashes, "memory_kills", lambda: 3)
    assert told in crashes.cause(log.splitlines(), status, kills_before=3)


def test_a_kill_that_the_kernel_counted_meanwhile_was_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crashes, "KERNEL", tmp_path / "vmstat")
    assert crashes.memory_kills() is None
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 4\n")
    told = crashes.cause([], -signal.SIGKILL, kills_before=3)
    assert "by the kernel" in told
    assert "calibration.chunk" in crashes.hint(told)
    assert "from outside" in crashes.cause([], -signal.SIGKILL, kills_before=4)


def test_a_real_native_crash_leaves_words_that_are_understood() -> None:
    code = "import faulthandler; faulthandler._sigsegv()"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, check=False
    )
    assert crashes.cause(done.stderr.splitlines()) == "the worker crashed in native code: segmentation fault"
    assert crashes.cause([], done.returncode) == "the worker crashed in native code: signal 11, SIGSEGV"
