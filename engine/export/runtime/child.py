"""The process that runs one artifact: reads a Spec from stdin, prints an Answer; see `process` for the other side."""

from __future__ import annotations

import dataclasses
import importlib
import json
import statistics
import sys
import time
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from engine.export.runtime.spec import Answer, Spec
from engine.resident import peak_resident

SHORTLY = 8  # tokens that are generated on another number of threads


class Runner(Protocol):
    """A loaded language model. Logits are numpy arrays in float32."""

    def logits(self, ids: list[int]) -> Any:
        """[tokens, vocabulary]; None where the runtime does not give them."""

    def generate(self, ids: list[int], count: int) -> tuple[list[int], float, float]:
        """Greedily so many tokens, even past an end; seconds until the first, seconds for the others."""

    def write(self, ids: list[int], count: int, ends: set[int]) -> list[int]:
        """Greedily so many tokens at most, an end the last of them; only of what no torch model is read from."""


class Answering(Protocol):
    """A loaded module of another kind."""

    def answers(self, rows: Any) -> Any:
        """[rows, classes] to features."""


def main() -> None:
    spec = Spec(**json.load(sys.stdin))
    runtime = importlib.import_module(f"engine.export.runtime.{spec.runtime}")
    began = time.perf_counter()
    runner: Any = runtime.load(spec)
    loaded = time.perf_counter() - began
    answer = measured(spec, runner, loaded)
    del runner
    answer = dataclasses.replace(answer, speeds=[on(count, spec, runtime) for count in spec.counts])
    print(json.dumps(dataclasses.asdict(answer)))


def measured(spec: Spec, runner: Any, loaded: float) -> Answer:
    """Speed first, as long as nothing else has been done; memory is the process's peak after that and before anything else."""
    rounds = [speed(spec, runner) for _ in range(spec.repeats + 1)][1:] if spec.decode else []
    memory = peak_resident()
    losses = [loss(spec, runner, index, window) for index, window in enumerate(spec.windows)]
    middle = [statistics.median(values) for values in zip(*(found[1:] for found in rounds), strict=True)]
    first, decode, prefill = middle or (None, None, None)
    return Answer(
        load_seconds=loaded, memory=memory, losses=[value for value in losses if value is not None],
        first_token_seconds=first, decode=decode, prefill=prefill, tokens=rounds[-1][0] if rounds else [],
        right=right(spec, runner) if spec.features else None,
        likelihoods=[likelihoods(runner, *asked) for asked in spec.asked],
        written=[[runner.write(ids, count, set(ends)) for ids in texts] for texts, count, ends in spec.continued],
    )  # fmt: skip


def on(threads: int, spec: Spec, runtime: ModuleType) -> tuple[int, float, float]:
    """Threads, decode and prefill tokens a second, of a runner that is loaded for them; the first round is not counted."""
    spec = dataclasses.replace(spec, threads=threads, decode=SHORTLY)
    runner: Runner = runtime.load(spec)
    _, _, decode, prefill = [speed(spec, runner) for _ in range(2)][-1]
    return threads, decode, prefill


def speed(spec: Spec, runner: Runner) -> tuple[list[int], float, float, float]:
    """Tokens, seconds to the first, decode and prefill tokens a second."""
    tokens, first, rest = runner.generate(spec.prompt, spec.decode)
    _, filled, _ = runner.generate(spec.prefill, 1)
    return tokens, first, (len(tokens) - 1) / rest, len(spec.prefill) / filled


def loss(spec: Spec, runner: Runner, index: int, window: list[int]) -> float | None:
    """Mean next-token cross-entropy of a window."""
    logits = runner.logits(window)
    if logits is None:
        return None
    if index == 0 and spec.logits:
        np.save(spec.logits, logits[: spec.kept])
    return -log_likelihood(logits[:-1], window[1:]) / (len(window) - 1)


def likelihoods(runner: Runner, ids: list[int], targets: list[list[int]]) -> list[float]:
    """Log-likelihood of each target, by the predictions at the ids' end."""
    logits = runner.logits(ids)
    return [log_likelihood(logits[-len(tokens) :], tokens) for tokens in targets]


def log_likelihood(logits_TV: Any, tokens: list[int]) -> float:
    """Of these tokens, one a position."""
    logits_TV = logits_TV.astype(np.float64)
    logits_TV -= logits_TV.max(axis=1, keepdims=True)
    chosen = logits_TV[np.arange(len(tokens)), tokens]
    return float((chosen - np.log(np.exp(logits_TV).sum(axis=1))).sum())


def right(spec: Spec, runner: Answering) -> list[bool]:
    """Which rows are: one logit (positive is class 1) or one a class."""
    from safetensors.numpy import load_file

    given = load_file(spec.features)
    out = runner.answers(given["x"])
    chosen = (out[:, 0] > 0) if out.shape[1] == 1 else out.argmax(axis=1)
    return [bool(hit) for hit in chosen == given["y"]]


if __name__ == "__main__":
    main()
