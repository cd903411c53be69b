"""Does adjusting a prompt beat the best of the pool that it began with? Every adjuster, several seeds, fresh rows.

    python bench/adjusters.py --model FOLDER [--only grips capo gcg rewrite] [--seeds 0 1 2 3 4] [--keep FOLDER]
                              [--set KEY=VALUE ...]

Each run of bench/profiles/adjusters.toml selects from a pool and adjusts the winner; both are compared on the test rows. A
verdict other than a tie is tried once more on 1,000 training rows that no run has seen, with the same prompts and calibration.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import place
import torch

from engine import statistics
from engine.data.rows import Row
from engine.data.tasks import load_task
from engine.model import load, resolve
from engine.profile import ModelOptions
from engine.profile import parse as parse_profile
from engine.prompts import answers, kept
from engine.prompts.cache import ScoreCache
from engine.prompts.judging import ACCURACY, Standing
from engine.prompts.scorer import Scorer

ADJUSTERS = ("grips", "capo", "gcg", "rewrite")
PROFILE = place.PROFILES / "adjusters.toml"
FRESH = "[5000:6000]"


def run(model: Path, method: str, seed: int, folder: Path, sets: list[str]) -> dict:
    """The summary of the adjusting step, and its comparison with where it began (None where it stayed there)."""
    command: list[object] = [place.SCRIPT, "run", "--run-dir", folder, "--json"]
    if folder.exists():
        command.append("--resume")
    else:
        chosen = [f"model.source={model}", "model.dtype=float32", f"seed={seed}", f"step.1.method={method}", *sets]
        command += ["--profile", PROFILE, *[word for item in chosen for word in ("--set", item)]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    summary = [e["summary"] for e in events if e["kind"] == "step_finished" and e["step"] == 1][-1]
    told = [e for e in events if e["kind"] == "prompts_compared" and e["step"] == 1 and e["calibration"] == "batch"]
    against = [e for e in told if e["a"] == summary["winner"] and e["b"] == summary["baseline"]]
    return {**summary, "compared": against[-1] if against else None}


class Fresh:
    """Rows that no run has seen, and the model that is asked about them."""

    def __init__(self, model: Path) -> None:
        profile = parse_profile(PROFILE.read_text(encoding="utf-8"), PROFILE.name)
        [(name, options)] = profile.task.items()
        source = options.train.replace("[0:5000]", FRESH)
        self.task = load_task(name, options.model_copy(update={"test": source, "overlap": "drop"}), 0)
        subject = load(resolve(ModelOptions(source=str(model), dtype="float32")))
        self.scorer = Scorer(subject, ScoreCache())

    @property
    def rows(self) -> list[Row]:
        return self.task.test

    def standing(self, folder: Path) -> Standing:
        """Of the prompt that is kept there, with its own calibration."""
        found = kept.read(folder)
        scores = self.scorer.score(found.prompt, self.rows, self.task.most_choices)
        offsets = torch.tensor(found.offsets, dtype=scores.dtype)
        return answers.judged(ACCURACY, scores, offsets, self.rows)

    def verdict(self, run: Path) -> str:
        """How the adjusted prompt does beside the selected one."""
        adjusted, selected = (self.standing(run / "artifacts" / name) for name in ("adjusted-prompts", "prompts"))
        paired = statistics.compare(adjusted.correct, selected.correct, 0)
        [(_, told)] = statistics.verdicts([paired])
        return f"{told} ({paired.difference:+.2%} [{paired.low:+.2%}, {paired.high:+.2%}], n = {paired.n})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an exported folder")
    parser.add_argument("--only", nargs="+", default=list(ADJUSTERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument(
        "--keep", type=Path, help="keep the runs here; those that are there already are read or resumed"
    )
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    fresh: Fresh | None = None
    with tempfile.TemporaryDirectory() as name:
        for method in arguments.only:
            for seed in arguments.seeds:
                folder = (arguments.keep or Path(name)) / f"{method}-{seed}"
                found = run(arguments.model.resolve(), method, seed, folder, arguments.sets)
                compared = found["compared"]
                line = f"{method}, seed {seed}: {found['accuracy']:.2%} from {found['baseline_accuracy']:.2%}"
                if compared is None:
                    print(f"{line}: stayed with the selected prompt", flush=True)
                    continue
                line += f", {compared['verdict']} {compared['difference']:+.2%} "
                line += f"[{compared['low']:+.2%}, {compared['high']:+.2%}]"
                if compared["verdict"] != "tie":
                    fresh = fresh or Fresh(arguments.model)
                    line += f"; fresh rows: {fresh.verdict(folder)}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
