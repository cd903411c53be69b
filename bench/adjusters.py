"""Does adjusting a prompt beat the best of the pool that it began with? Every adjuster, several seeds, confirmed on fresh rows.

    python bench/adjusters.py --model FOLDER [--only grips capo gcg rewrite] [--seeds 0 1 2 3 4] [--keep FOLDER]
                              [--set KEY=VALUE ...]

Each run of bench/profiles/adjusters.toml selects from a pool and adjusts the winner; both are compared on the test rows. A
verdict other than a tie must hold on the task's confirm rows too, 1,000 training rows that the run sees nothing else of.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import place

ADJUSTERS = ("grips", "capo", "gcg", "rewrite")
PROFILE = place.PROFILES / "adjusters.toml"


def run(model: Path, method: str, seed: int, folder: Path, sets: list[str]) -> dict:
    """The summary of the adjusting step, and by split its comparison with where it began, none where it stayed there."""
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
    return {**summary, "compared": {event["split"]: event for event in against}}


def told(compared: dict) -> str:
    interval = f"[{compared['low']:+.2%}, {compared['high']:+.2%}]"
    return f"{compared['difference']:+.2%} {interval}, n = {compared['n']}"


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
    with tempfile.TemporaryDirectory() as name:
        for method in arguments.only:
            for seed in arguments.seeds:
                folder = (arguments.keep or Path(name)) / f"{method}-{seed}"
                found = run(arguments.model.resolve(), method, seed, folder, arguments.sets)
                line = f"{method}, seed {seed}: {found['accuracy']:.2%} from {found['baseline_accuracy']:.2%}"
                if "test" not in found["compared"]:
                    print(f"{line}: stayed with the selected prompt", flush=True)
                    continue
                test, fresh = found["compared"]["test"], found["compared"].get("confirm")
                line += f", {test['verdict']}: {told(test)}"
                print(line + (f"; confirm rows {told(fresh)}" if fresh else ""), flush=True)


if __name__ == "__main__":
    main()
