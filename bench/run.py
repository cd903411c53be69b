"""`make bench`, one after the other: cold starts, pruning against its peer and beyond memory, the prompt claim.

Each script also runs alone; allocation.py, zeroshot.py, structured.py, scoring.py, estimates.py, distill.py,
distill_memory.py, reload.py and sparse_training.py only do. Figures are kept in bench/RESULTS.md, what did not work in
bench/LOG.md.
"""

from __future__ import annotations

import subprocess
import sys

import place


def main() -> None:
    for script in ("startup.py", "prune.py", "scale.py"):
        print(f"== {script}", flush=True)
        subprocess.run([sys.executable, place.ROOT / "bench" / script], check=True)
    print("== sst2.toml", flush=True)
    subprocess.run([place.SCRIPT, "run", "--profile", place.PROFILES / "sst2.toml"], check=True)


if __name__ == "__main__":
    main()
