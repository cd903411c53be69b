"""Training of one block: the schedule's closed form, the masks, number formats, and a solvable problem."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from fixtures.models import DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine.errors import EngineError
from engine.pruning.masks import Pattern
from engine.training.blockwise import relative_error, train
from engine.training.masking import check_masks, mask_of, trainable
from engine.training.schedule import Schedule


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=20, learning_rate=1.0, warmup=0.2, clip=1.0)
    rates = [schedule.rate(step) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == [pytest.approx(0.5 * (1 + math.cos(math.pi * i / 16))) for i in range(16)]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_schedules_still_learn(steps: int) -> None:
    schedule = Schedule(steps, 0.1, 0.1, 1.0)
    assert all(0 < schedule.rate(step) <= 0.1 for step in range(steps))


def masked_linear(device: str, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Half of its 8x8 weights are zero; never ready for gradients."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8, device=device, dtype=dtype).requires_grad_(False)
    layer.weight *= (torch.arange(64, device=device).view(8, 8) * 7 % 64) < 32
    return layer


def fit(
    layer: nn.Linear, steps: int, rate: float = 0.02, tell: Callable[[], None] = lambda: None
) -> tuple[float, float]:
    """Trains towards another random layer; the error before and after."""
    torch.manual_seed(1)
    device = layer.weight.device
    other = nn.Linear(8, 8, device=device).requires_grad_(False)
    inputs = [torch.randn(4, 16, 8, device=device) for _ in range(4)]
    targets = [other(x) for x in inputs]

    def forward(index: int) -> torch.Tensor:
        return nn.functional.linear(inputs[index], layer.weight.float(), layer.bias.float())

    before = relative_error(forward, targets)
    with trainable(layer) as (parameters, masks):
        train(forward, targets, parameters, masks, Schedule(steps, rate, 0.1, 1.0),
              torch.Generator().manual_seed(0), tell)  # fmt: skip
    return before, relative_error(forward, targets)


@settings(max_examples=20)
@given(
    st.one_of(
        st.floats(0.0, 0.95).map(Pattern),
        st.sampled_from([(2, 4), (1, 4), (4, 8)]).map(lambda p: Pattern(1 - p[0] / p[1], p)),
    ),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_pattern_holds_after_every_step(pattern: Pattern, dtype: torch.dtype) -> None:
    layer = nn.Linear(8, 8).to(dtype).requires_grad_(False)
    layer.weight *= pattern.keep(layer.weight.abs())
    zeros, steps = layer.weight == 0, []

    def tell() -> None:
        steps.append(bool(layer.weight[zeros].any()))

    fit(layer, 9, tell=tell)
    assert steps == [False] * 9


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_zero_stays_zero_and_the_error_falls(device: str, dtype: torch.dtype) -> None:
    layer = masked_linear(device, dtype)
    keep, storage = layer.weight != 0, layer.weight.data_ptr()
    before, after = fit(layer, 200)
    assert after < 0.7 * before
    assert torch.equal(layer.weight != 0, keep)
    assert layer.weight.dtype == dtype
    assert layer.weight.data_ptr() == storage, "views of the weight stay views"
    assert not layer.weight.requires_grad
    assert layer.weight.grad is None


def test_it_reaches_the_least_squares_solution_of_the_kept_weights() -> None:
    layer = masked_linear("cpu")
    keep = layer.weight != 0
    torch.manual_seed(1)
    other = nn.Linear(8, 8).requires_grad_(False)
    x = torch.cat([torch.randn(4, 16, 8) for _ in range(4)]).reshape(-1, 8)
    y = other(x)
    best = 0.0
    for row in range(8):
        columns = torch.cat([x[:, keep[row]], torch.ones(len(x), 1)], 1)
        solution = torch.linalg.lstsq(columns, y[:, row]).solution
        best += float((columns @ solution - y[:, row]).square().sum())
    best /= float(y.square().sum())
    _, after = fit(layer, 3000)
    assert best <= after < 1.02 * best + 1e-6


def test_the_same_seed_trains_the_same() -> None:
    one, two = masked_linear("cpu"), masked_linear("cpu")
    fit(one, 20)
    fit(two, 20)
    assert torch.equal(one.weight, two.weight)


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    with pytest.raises(EngineError, match="at step 1$"):
        fit(masked_linear("cpu").requires_grad_(False).apply(lambda m: m.bias.fill_(float("inf"))), 5)


def test_masks_are_only_of_matrices_with_zeros() -> None:
    assert mask_of(torch.ones(2, 2)) is None
    assert mask_of(torch.tensor([0.0, 1.0])) is None
    assert torch.equal(mask_of(torch.tensor([[0.0, 1.0]])), torch.tensor([[False, True]]))


def test_a_revived_weight_is_an_error() -> None:
    layer = masked_linear("cpu")
    with pytest.raises(EngineError, match="brought back"):
        check_masks([layer.weight], [torch.zeros(8, 8, dtype=torch.bool)])
