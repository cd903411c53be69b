"""What runs were estimated to need and what they used: memory, disk, time, and the ratio of the two.

    python bench/estimates.py [--only demo sparsegpt admm recover] [--samples 16] [--model FOLDER]

Each case is the demo profile made shorter. Scores and figures go to a cache of their own, so that nothing is taken from
earlier runs; only the dequantized model is. Another model may take the demo model's place. The aim is a ratio between 0.5
and 2; a machine that others use meanwhile shows in the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import place

from engine import files

SHORT = ("evaluate.rows=100", "evaluate.windows=4", "step.1.budget=300", "step.1.test_rows=150")
CASES: dict[str, tuple[str, ...]] = {
    "demo": SHORT,
    "sparsegpt": ("step=[{use='prune', criterion='sparsegpt'}]", "evaluate.tasks=[]", "evaluate.windows=4", "gate={}"),
    "admm": ("step=[{use='prune', criterion='admm', statistics='dense'}, {use='export', dtype='bfloat16'}]",
             "evaluate.tasks=[]", "evaluate.windows=4", "gate={}"),
    "recover": ("step=[{use='prune'}, {use='recover', epochs=1}]", "evaluate.tasks=[]", "evaluate.windows=4", "gate={}"),
}  # fmt: skip


def events(settings: tuple[str, ...], work: Path) -> list[dict[str, Any]]:
    """The events of one run."""
    cache = work / "cache"
    cache.mkdir()
    models = files.cache_folder() / "models"
    if models.is_dir():
        (cache / "models").symlink_to(models)
    command = [place.SCRIPT, "run", "--profile", "demo", "--run-dir", work / "run", "--json"]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "COMPRESS_TUI_CACHE": str(cache)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def figures(found: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """{name: (estimate, outcome)} in GB and seconds; time counts from the estimate on."""
    expected = {e["name"]: e for e in found if e["kind"] == "estimated"}
    last = found[-1]
    used = {"memory": last["memory"] / 1e9, "disk": last["disk"] / 1e9, "time": last["time"] - expected["time"]["time"]}
    return {name: (expected[name]["value"] / (1 if name == "time" else 1e9), value) for name, value in used.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--model", default="demo")
    arguments = parser.parse_args()
    common = (f"calibration.samples={arguments.samples}", f"model.source={arguments.model}")
    for case in arguments.only:
        with tempfile.TemporaryDirectory() as name:
            found = figures(events((*CASES[case], *common), Path(name)))
        for what, (expected, used) in found.items():
            unit = "s" if what == "time" else "GB"
            print(
                f"{case} {what}: estimated {expected:.2f} {unit}, used {used:.2f} {unit}, ratio {expected / used:.2f}"
            )


if __name__ == "__main__":
    main()
