"""Pruning side by side with llm-compressor, in one run: seconds, ratio, and perplexity of both exported folders.

    python bench/prune.py [--only wanda sparsegpt sparsegpt-2:4] [--no-peer]

Same model, calibration text and windows, two runs one after the other. Ours is timed from the step's first event to its
last matrix, drawing and tokenizing the calibration text included; the peer's is what its `oneshot` took. Both folders are
scored by the evaluator beside the data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import place

CASES = {
    "wanda": ("wanda", "unstructured", 38.9, 0.45),
    "sparsegpt": ("sparsegpt", "unstructured", 30.9, 0.50),
    "sparsegpt-2:4": ("sparsegpt", "2:4", 45.5, None),
}
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def ours(method: str, pattern: str, folder: Path) -> tuple[float, Path]:
    """Seconds of the prune step, and the exported folder."""
    command = [place.SCRIPT, "run", "--profile", place.PROFILES / "prune.toml", "--run-dir", folder, "--json",
               "--set", f"step.0.criterion={method}", "--set", f"step.0.pattern={pattern}"]  # fmt: skip
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    events = [json.loads(line) for line in out.splitlines()]
    began = next(e["time"] for e in events if e["kind"] == "step_started" and e["use"] == "prune")
    ended = max(e["time"] for e in events if e["kind"] == "layer_pruned")
    return ended - began, folder / "artifacts" / "model"


def dense(folder: Path) -> Path:
    """The demo model as a plain folder, for the peer."""
    command = [place.SCRIPT, "run", "--profile", place.PROFILES / "prune.toml", "--run-dir", folder, "--json",
               "--set", 'step=[{use="export", verify=false}]']  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "artifacts" / "model"


def peer(python: Path, model: Path, method: str, pattern: str, folder: Path) -> float:
    """Seconds of the peer's oneshot."""
    text = place.data() / "text" / "wikitext2-valid.tokenised.txt"
    structure = "0:0" if pattern == "unstructured" else pattern
    command = [python, place.evaluator("peer_llmcompressor.py"), model, text, folder, "--method", method,
               "--pattern", structure]  # fmt: skip
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=OFFLINE)
    return float(json.loads(out.stdout.splitlines()[-1])["seconds"])


def score(folder: Path) -> dict[str, float]:
    """Perplexity and stored sparsity by the independent evaluator."""
    text = place.data() / "text" / "wikitext2-test.tokenised.txt"
    command = [sys.executable, place.evaluator("perplexity.py"), folder, text]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=OFFLINE)
    found: dict[str, float] = json.loads(out.stdout.splitlines()[-1])
    return found


def two_of_four(folder: Path) -> bool:
    """Whether every group of four stored weights of the blocks' matrices has at least two zeros."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    matrices = [w for name, w in weights.items() if w.ndim == 2 and ".layers." in name]
    return all(bool(((w != 0).reshape(-1, 4).sum(1) <= 2).all()) for w in matrices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    python = None if arguments.no_peer else place.environment("peer", "torch==2.13.0", "llmcompressor")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = dense(work / "dense")
        print(f"dense: perplexity {score(model)['perplexity']}", flush=True)
        for case in arguments.only:
            one_case(case, python, model, work)


def one_case(case: str, python: Path | None, model: Path, work: Path) -> None:
    method, pattern, bound, ratio_bound = CASES[case]
    seconds, folder = ours(method, pattern, work / f"ours-{case}")
    found = score(folder)
    line = f"{case}: perplexity {found['perplexity']} (bound {bound}), sparsity {found['sparsity']}, {seconds:.1f} s"
    if pattern == "2:4":
        line += f", 2:4 in every group {two_of_four(folder)}"
    if python is not None and ratio_bound is not None:
        theirs = peer(python, model, method, pattern, work / f"peer-{case}")
        other = score(work / f"peer-{case}")["perplexity"]
        line += f"; peer perplexity {other}, {theirs:.1f} s; ratio {seconds / theirs:.3f} (bound {ratio_bound})"
    print(line, flush=True)


if __name__ == "__main__":
    main()
