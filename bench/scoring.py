"""Scoring speed beside lm-evaluation-harness: the same 4-shot SST-2 requests, examples a second, and how far scores differ.

    python bench/scoring.py [--rows 300] [--shots 4] [--batch 16] [--model FOLDER]

Both compute in float32 on the same exported folder, one after the other; ours without its cache on disk. The harness runs in an
environment of its own (its `hf` model, at most `--batch` sequences a batch) and is timed from its first request to its last
answer, as ours is; loading is not counted on either side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import place
import prune
import torch

from engine.data.tasks import load_task
from engine.model import load
from engine.profile import ModelOptions
from engine.profile import parse as parse_profile
from engine.prompts import pool
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

PEER = Path(__file__).with_name("peer_lm_eval.py")


def request(rows: int, shots: int) -> tuple[Prompt, list]:
    """The prompt with its demonstrations, and the rows to score."""
    profile = parse_profile((place.PROFILES / "sst2.toml").read_text(encoding="utf-8"), "sst2.toml")
    task = load_task("sst2", profile.task.get("sst2"), 0)
    options = SelectPromptOptions.model_validate({"use": "select_prompt", "task": "sst2", "demonstrations": [shots]})
    return pool.build(task, options, 0)[-1], task.test[:rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", type=Path, help="an exported folder; the dense demo model by default")
    arguments = parser.parse_args()
    python = place.environment("lm-eval", "torch==2.13.0", "transformers==5.23.0", "lm_eval[hf]==0.4.13")
    prompt, rows = request(arguments.rows, arguments.shots)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.model or prune.dense("demo", Path(name) / "dense")
        asked = [[prompt.fill(row), choice] for row in rows for choice in row.choices]
        file = Path(name) / "requests.json"
        file.write_text(json.dumps(asked))
        theirs_seconds, theirs = harness(python, folder, file, arguments.batch)
        seconds, scores = ours(folder, prompt, rows)
    difference = (torch.tensor(theirs, dtype=torch.float64) - scores.view(-1)).abs().max()
    ratio = theirs_seconds / seconds
    print(f"{len(rows)} rows, {arguments.shots} shots: harness {len(rows) / theirs_seconds:.2f} examples/s, ours "
          f"{len(rows) / seconds:.2f}, ratio {ratio:.2f} (bound 3), max difference {difference:.2e} (bound 1e-3)")  # fmt: skip


def ours(folder: Path, prompt: Prompt, rows: list) -> tuple[float, torch.Tensor]:
    subject = load(ModelOptions(source=str(folder), device="cpu", dtype="float32"), seed=0, allow_code=False)
    began = time.perf_counter()
    scores = Scorer(subject).score(prompt, rows)
    return time.perf_counter() - began, scores


def harness(python: Path, folder: Path, requests: Path, batch: int) -> tuple[float, list[float]]:
    command = [python, PEER, folder, requests, str(batch)]
    out = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=prune.OFFLINE
    )
    found = json.loads(out.stdout.splitlines()[-1])
    return float(found["seconds"]), found["scores"]


if __name__ == "__main__":
    main()
