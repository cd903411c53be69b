"""Does the divergence from the dense model's answers help a soft prompt? With and without it, several seeds, row by row.

    python bench/soft_prompt.py [--alphas 0 0.5] [--seeds 0 1 2 3 4] [--model DIR_OR_GGUF] [--keep FOLDER] [--set KEY=VALUE ...]

Every run of bench/profiles/sst2.toml prunes and trains 20 virtual tokens ahead of the plain template; the winners of each seed
are compared on all test rows, the first alpha's as the baseline.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import place

from engine.statistics import mean_interval

PRUNE = '{use="prune", criterion="wanda", sparsity=0.5}'
EMBED = '{{use="embed_prompt", task="sst2-full", calibration="batch", train_rows=1000, epochs=5, rows=200, alpha={}}}'


def run(model: str, alpha: float, seed: int, folder: Path, sets: list[str]) -> dict:
    """The summary of the step that trains; a run that was broken off goes on."""
    command: list[object] = [place.SCRIPT, "run", "--run-dir", folder]
    if (folder / "profile.toml").is_file():
        command.append("--resume")
    else:
        steps = f"step=[{PRUNE}, {EMBED.format(alpha)}]"
        chosen = [f'model.source="{model}"', "model.dtype=float32", f"seed={seed}", steps, *sets]
        command += ["--profile", place.PROFILES / "sst2.toml", *[word for item in chosen for word in ("--set", item)]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [e for e in map(json.loads, lines) if e["kind"] == "step_finished"][-1]["summary"]


def over(found: list[float], first: list[float]) -> str:
    """How much better these are, by the seeds; a single one has no spread."""
    if len(found) < 2:
        return ""
    low, high = mean_interval([value - other for value, other in zip(found, first, strict=True)])
    return f", {low:+.2%} to {high:+.2%} over the first's"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    accuracies: dict[float, list[float]] = {alpha: [] for alpha in arguments.alphas}
    for seed in arguments.seeds:
        runs = [folder / f"alpha-{alpha}-{seed}" for alpha in arguments.alphas]
        for alpha, place_ in zip(arguments.alphas, runs, strict=True):
            summary = run(arguments.model, alpha, seed, place_, arguments.sets)
            accuracies[alpha].append(summary["accuracy"])
            print(f"seed {seed}, alpha {alpha}: {summary['accuracy']:.2%}, from {summary['baseline_accuracy']:.2%}")
        if len(runs) > 1:
            subprocess.run([place.SCRIPT, "compare", "--prompts", *runs], check=True)
    first = accuracies[arguments.alphas[0]]
    for alpha, found in accuracies.items():
        print(f"alpha {alpha}: mean {sum(found) / len(found):.2%}{'' if found is first else over(found, first)}")


if __name__ == "__main__":
    main()
