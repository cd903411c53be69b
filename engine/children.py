"""Programs that a run starts and waits for: they end with it, also where it is killed.

`run` starts them through this file, `python -P -m engine.children PID COMMAND ...`, which asks the kernel for that (Linux only;
prctl(2), PR_SET_PDEATHSIG, is kept by exec) and becomes the command. Elsewhere a command runs on to its own end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of the command, text in and out; it does not outlive the thread that waits for it."""
    starter = [sys.executable, "-P", "-m", "engine.children", str(os.getpid())]
    return subprocess.run([*starter, *command], capture_output=True, text=True, check=False, **options)


def main(parent: int, command: list[str]) -> None:
    """Becomes the command, or ends where the parent has ended already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
