"""`make bench`, one after the other: cold starts, pruning against its peer and beyond memory, the prompt claim. What needs the
benchmark data is skipped where COMPRESS_TUI_DATA names no folder.

Each script also runs alone; allocation.py, zeroshot.py, structured.py, scoring.py, estimates.py, distill.py,
distill_memory.py, reload.py and sparse_training.py only do. Figures are kept in bench/RESULTS.md, what did not work in
bench/LOG.md.
"""

from __future__ import annotations

import subprocess
import sys

import place

WITH_DATA = ("prune.py", "sst2.toml")


def main() -> None:
    for name in ("startup.py", "prune.py", "scale.py", "sst2.toml"):
        if name in WITH_DATA and not place.has_data():
            print(f"== {name}: skipped, COMPRESS_TUI_DATA names no folder with the benchmark data", flush=True)
            continue
        print(f"== {name}", flush=True)
        script: list[object] = [sys.executable, place.ROOT / "bench" / name]
        profile: list[object] = [place.SCRIPT, "run", "--profile", place.PROFILES / name]
        subprocess.run(profile if name.endswith(".toml") else script, check=True)


if __name__ == "__main__":
    main()
