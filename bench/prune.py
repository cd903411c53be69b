"""Pruning side by side with llm-compressor, in one run: seconds, ratio, the solver's share, perplexity of the exported folders.

    python bench/prune.py [--only CASE...] [--seeds 0 1 2] [--no-peer] [--start 0] [--model DIR_OR_GGUF] [--keep FOLDER]

Same model, calibration text and windows, two runs one after the other. Ours is timed from the prune step's first event to its
last matrix, drawing and tokenizing the calibration text included; the peer's is what its `oneshot` took (SparseGPT's stands
beside ADMM, which the peer does not have). Folders are scored by the evaluator beside the data; bounds are for the demo model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import place

OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
EXPORT = '{use="export", verify=false}'


@dataclass(frozen=True)
class Case:
    """Steps of ours as TOML; the perplexity to reach; the peer's method and pattern, and the ratio of seconds to reach."""

    steps: str
    bound: float
    peer: tuple[str, str] | None = None
    ratio: float | None = None


def prune(criterion: str, sparsity: float = 0.5, pattern: str = "unstructured") -> str:
    return f'{{use="prune", criterion="{criterion}", sparsity={sparsity}, pattern="{pattern}"}}'


RECOVER = f'{EXPORT}, {{use="recover"}}'
CASES = {
    "wanda": Case(prune("wanda"), 38.9, ("wanda", "unstructured"), 0.35),
    "sparsegpt": Case(prune("sparsegpt"), 30.9, ("sparsegpt", "unstructured"), 0.40),
    "sparsegpt-2:4": Case(prune("sparsegpt", pattern="2:4"), 45.5),
    "admm": Case(prune("admm"), 27.3, ("sparsegpt", "unstructured"), 1.0),
    "admm-2:4": Case(prune("admm", pattern="2:4"), 35.8),
    "admm-60": Case(prune("admm", 0.6), 35.5),
    "wanda-recover": Case(f"{prune('wanda')}, {RECOVER}", 31.8),
    "admm-recover": Case(f"{prune('admm')}, {RECOVER}", 26.5),
}


@dataclass(frozen=True)
class Ours:
    """Seconds of pruning and of recovery, the solver's share of the first, the exported folder, and the one before recovery."""

    seconds: float
    solver: float
    recovery: float
    folder: Path
    before: Path | None


def ours(steps: str, model: str, seed: int, folder: Path) -> Ours:
    command = [place.SCRIPT, "run", "--profile", place.PROFILES / "prune.toml", "--run-dir", folder, "--json",
               "--set", f'model.source="{model}"', "--set", "model.dtype=float32", "--set", f"seed={seed}",
               "--set", f"step=[{steps}, {EXPORT}]"]  # fmt: skip
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    events = [json.loads(line) for line in out.splitlines()]
    layers = [e for e in events if e["kind"] in ("layer_pruned", "parts_removed")]
    began = next(e["time"] for e in events if e["kind"] == "step_started" and e["use"] == "prune")
    seconds = max(e["time"] for e in layers) - began
    recovered = sum(e["seconds"] for e in events if e["kind"] == "block_recovered")
    *before, last = [folder / e["path"] for e in events if e["kind"] == "artifact_written"]
    return Ours(seconds, sum(e["seconds"] for e in layers) / seconds, recovered, last, before[0] if before else None)


def dense(model: str, folder: Path) -> Path:
    """The model as a plain folder, for the peer."""
    command = [place.SCRIPT, "run", "--profile", place.PROFILES / "prune.toml", "--run-dir", folder, "--json",
               "--set", f'model.source="{model}"', "--set", f"step=[{EXPORT}]"]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "artifacts" / "model"


def peer(python: Path, model: Path, method: str, pattern: str, seed: int, folder: Path) -> float:
    """Seconds of the peer's oneshot."""
    text = place.data() / "text" / "wikitext2-valid.tokenised.txt"
    structure = "0:0" if pattern == "unstructured" else pattern
    command = [python, place.evaluator("peer_llmcompressor.py"), model, text, folder, "--method", method,
               "--pattern", structure, "--seed", str(seed)]  # fmt: skip
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=OFFLINE)
    return float(json.loads(out.stdout.splitlines()[-1])["seconds"])


def score(folder: Path, start: int) -> dict[str, Any]:
    """Perplexity and stored sparsity by the independent evaluator."""
    text = place.data() / "text" / "wikitext2-test.tokenised.txt"
    command = [sys.executable, place.evaluator("perplexity.py"), folder, text, "--start", str(start)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=OFFLINE)
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def two_of_four(folder: Path) -> bool:
    """Whether every group of four stored weights of the blocks' matrices has at least two zeros."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    matrices = [w for name, w in weights.items() if w.ndim == 2 and ".layers." in name]
    return all(bool(((w != 0).reshape(-1, 4).sum(1) <= 2).all()) for w in matrices)


@dataclass
class Bench:
    """One run of the benchmark. Peers are run once a method, pattern and seed."""

    python: Path | None
    source: str
    model: Path
    start: int
    work: Path

    def __post_init__(self) -> None:
        self._peers: dict[tuple[str, str, int], tuple[float, float]] = {}

    def case(self, name: str, seeds: list[int]) -> None:
        found = [self.once(name, seed) for seed in seeds]
        if len(found) > 1:
            mean, spread = statistics.mean(found), statistics.stdev(found)
            print(f"{name}: perplexity {mean:.2f} +- {spread:.2f} over seeds {seeds}", flush=True)

    def once(self, name: str, seed: int) -> float:
        case = CASES[name]
        mine = ours(case.steps, self.source, seed, self.work / f"ours-{name}-{seed}")
        found = score(mine.folder, self.start)
        bound = f" (bound {case.bound})" if self.source == "demo" else ""
        line = (f"{name}, seed {seed}: perplexity {found['perplexity']}{bound}, sparsity "
                f"{found['sparsity']}, {mine.seconds:.1f} s, solver's share {mine.solver:.2f}")  # fmt: skip
        if mine.before is not None:
            before = score(mine.before, self.start)
            line += f", recovery {mine.recovery:.1f} s from {before['perplexity']}, sparsity {before['sparsity']}"
        line += f", 2:4 in every group {two_of_four(mine.folder)}" if "2:4" in name else ""
        if self.python is not None and case.peer is not None:
            theirs, other = self.peer(*case.peer, seed)
            ratio = mine.seconds / theirs
            line += f"; peer's {case.peer[0]} {other}, {theirs:.1f} s; ratio {ratio:.3f} (bound {case.ratio})"
        print(line, flush=True)
        return float(found["perplexity"])

    def peer(self, method: str, pattern: str, seed: int) -> tuple[float, float]:
        """Seconds and perplexity."""
        key = (method, pattern, seed)
        if key not in self._peers:
            folder = self.work / "-".join(map(str, ("peer", *key)))
            assert self.python is not None
            seconds = peer(self.python, self.model, method, pattern, seed, folder)
            self._peers[key] = seconds, score(folder, self.start)["perplexity"]
        return self._peers[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--start", type=int, default=0, help="first window of the test text; 20 while developing")
    parser.add_argument("--model", default="demo", help="a folder or a GGUF file of another model")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs; thrown away by default")
    arguments = parser.parse_args()
    python = None if arguments.no_peer else place.environment("peer", "torch==2.13.0", "llmcompressor")
    source = arguments.model if arguments.model == "demo" else str(Path(arguments.model).resolve())
    with tempfile.TemporaryDirectory() as name:
        work = arguments.keep or Path(name)
        model = dense(source, work / "dense")
        print(f"dense: perplexity {score(model, arguments.start)['perplexity']}", flush=True)
        bench = Bench(python, source, model, arguments.start, work)
        for case in arguments.only:
            bench.case(case, arguments.seeds)


if __name__ == "__main__":
    main()
