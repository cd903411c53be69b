"""Cold starts: `--help` and the app's first frame through a pseudo-terminal, beside harlequin's, medians of several runs.

python bench/startup.py [--runs 5] [--no-peer]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import termios
import time
from pathlib import Path

import place


def help_seconds() -> float:
    """Wall seconds of `compress-tui --help`."""
    began = time.perf_counter()
    subprocess.run([place.SCRIPT, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_frame_seconds(command: list[str | Path], mark: bytes) -> float:
    """From exec until the screen's text `mark` was written to a 120x40 terminal; the process is then ended."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(str(command[0]), [str(part) for part in command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""
    try:
        while mark not in seen:
            ready, _, _ = select.select([terminal], [], [], 30)
            if not ready:
                raise TimeoutError(f"no first frame of {command[0]}")
            seen += os.read(terminal, 65536)
        return time.perf_counter() - began
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    helps = [help_seconds() for _ in range(arguments.runs + 1)][1:]
    print(f"--help: {statistics.median(helps):.3f} s (bound 0.35)", flush=True)
    peer = None if arguments.no_peer else place.environment("harlequin", "harlequin==2.*")
    pairs = [both(peer) for _ in range(arguments.runs + 1)][1:]
    mine = statistics.median(pair[0] for pair in pairs)
    print(f"first frame: {mine:.3f} s (bound 1)", flush=True)
    if peer is not None:
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"harlequin: {statistics.median(pair[1] for pair in pairs):.3f} s; ratio {ratio:.2f}", flush=True)


def both(peer: Path | None) -> tuple[float, float]:
    """Ours and harlequin's first frame, one after the other."""
    mine = first_frame_seconds([place.SCRIPT], b"help")
    theirs = first_frame_seconds([peer.with_name("harlequin")], b"Query Editor") if peer else float("nan")
    return mine, theirs


if __name__ == "__main__":
    main()
