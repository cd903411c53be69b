"""Cold starts: `--help` and the app's first frame through a pseudo-terminal, beside harlequin's, medians of several runs.

python bench/startup.py [--runs 5] [--no-peer]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from contextlib import closing
from pathlib import Path

import place
from terminal import Terminal


def help_seconds() -> float:
    """Wall seconds of `compress-tui --help`."""
    began = time.perf_counter()
    subprocess.run([place.SCRIPT, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_frame_seconds(command: list[str | Path], mark: str) -> float:
    """From exec until the screen's text `mark` was written to a 120x40 terminal; the process is then ended."""
    with closing(Terminal(command)) as terminal:
        return terminal.wait(mark)


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
    mine = first_frame_seconds([place.SCRIPT], "help")
    theirs = first_frame_seconds([peer.with_name("harlequin")], "Query Editor") if peer else float("nan")
    return mine, theirs


if __name__ == "__main__":
    main()
