"""Peak memory of distillation with the teacher's answers on disk, against the teacher in memory.

    python bench/distill_memory.py [--rows 40] [--steps 3] [--set KEY=VALUE ...]

Settings of bench/profiles/distill.toml on the first rows of the C4 sample: the demo model without half of its weights (by
magnitude) learns from the dense one. The largest resident size of a process of its own each, its start included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import place

PRUNE = '{use="prune", criterion="magnitude"}'
CASES = {"cached": "true", "in memory": "false"}


def peak(folder: Path, step: str, sets: list[str]) -> int:
    """Bytes of the run's process at most."""
    words = [word for item in (f"step=[{PRUNE}, {step}]", *sets) for word in ("--set", item)]
    command = [place.SCRIPT, "run", "--profile", place.PROFILES / "distill.toml", "--run-dir", folder, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run failed: {folder}")
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[])
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "train.jsonl"
        lines = (place.data() / "text" / "c4-sample.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.dumps({"text": json.loads(line)["text"]}) for line in lines[: arguments.rows]]
        text.write_text("\n".join(rows) + "\n")
        os.environ["COMPRESS_TUI_BENCH_TEXT"] = str(text)
        for case, cache in CASES.items():
            step = f'{{use="distill", data="file:{text}", steps={arguments.steps}, cache={cache}}}'
            found[case] = peak(Path(name) / case.replace(" ", "-"), step, arguments.set)
            print(f"{case}: {found[case] / 1e9:.2f} GB", flush=True)
    print(f"ratio {found['cached'] / found['in memory']:.2f} (bound 0.75)")


if __name__ == "__main__":
    main()
