"""The obs score against brute force: what a least-squares refit leaves, and that copies are not both taken."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from engine.pruning.evidence import Evidence, best
from engine.pruning.refit import Inputs, refit
from engine.pruning.scores import flap, obs

PARTS, OUT, TOKENS = 8, 5, 300


def given(width: int, seed: int = 0, count: int = 5) -> tuple[Evidence, Inputs]:
    generator = torch.Generator().manual_seed(seed)
    size = PARTS * width
    x = torch.randn(TOKENS, size // 2, generator=generator) @ torch.randn(size // 2, size, generator=generator)
    inputs = Inputs.of(x + 0.5 * torch.randn(TOKENS, size, generator=generator), True)
    reader = torch.randn(OUT, size, generator=generator)
    shape = (PARTS, width)
    evidence = Evidence(
        torch.ones(PARTS), generator, inputs.variance.reshape(shape), inputs.magnitude.reshape(shape),
        reader.square().sum(0).reshape(shape), gram=inputs.gram, reader=reader, count=count, damping=1e-6,
    )  # fmt: skip
    return evidence, inputs


def error(evidence: Evidence, inputs: Inputs, stay: list[int]) -> float:
    assert evidence.reader is not None
    width = evidence.reader.shape[1] // PARTS
    kept = torch.arange(PARTS * width).reshape(PARTS, width)[stay].flatten()
    return refit(evidence.reader, None, inputs, kept, 1e-6).error


@pytest.mark.parametrize("width", [1, 3])
def test_the_cost_of_one_part_is_the_error_of_the_refit_without_it(width: int) -> None:
    evidence, inputs = given(width, count=PARTS)
    costs = obs.score(evidence)
    errors = [error(evidence, inputs, [p for p in range(PARTS) if p != gone]) for gone in range(PARTS)]
    expected = torch.tensor(errors) * (evidence.reader @ inputs.gram * evidence.reader).sum()
    torch.testing.assert_close(costs, expected, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("width", [1, 2])
def test_what_stays_is_nearly_the_best_choice_of_all_and_better_than_flaps(width: int) -> None:
    mean = {"obs": 0.0, "flap": 0.0, "best": 0.0}
    for seed in range(10):
        evidence, inputs = given(width, seed)
        for name, score in (("obs", obs.score), ("flap", flap.score)):
            mean[name] += error(evidence, inputs, best(score(evidence), 5).tolist()) / 10
        mean["best"] += min(error(evidence, inputs, list(stay)) for stay in combinations(range(PARTS), 5)) / 10
    assert mean["best"] <= mean["obs"] < mean["flap"]
    assert mean["obs"] < 1.3 * mean["best"]


def test_of_two_copies_one_stays() -> None:
    evidence, _ = given(1)
    assert evidence.gram is not None
    twins = evidence.gram.clone()
    twins[1], twins[:, 1] = twins[0].clone(), twins[:, 0].clone()
    twins[1, 1] = twins[0, 1] = twins[1, 0] = twins[0, 0]
    scores = obs.score(replace(evidence, gram=twins, count=PARTS - 1))
    assert set(range(PARTS)) - set(best(scores, PARTS - 1).tolist()) <= {0, 1}
    scores = obs.score(replace(evidence, gram=twins, count=PARTS - 2))
    assert len({0, 1} & set(best(scores, PARTS - 2).tolist())) >= 1
