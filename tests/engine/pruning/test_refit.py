"""The refit is the least-squares solution, and its statistics tell the error that the data would."""

from __future__ import annotations

import pytest
import torch
from fixtures.models import DEVICES

from engine.errors import EngineError
from engine.pruning.refit import Inputs, factored, refit

OUT, IN, TOKENS = 6, 12, 400
KEPT = torch.tensor([0, 1, 3, 4, 7, 10, 11])


def data(device: str = "cpu", shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Correlated inputs [TOKENS, IN] about `shift`, a matrix and a bias."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS, 5, generator=generator) @ torch.randn(5, IN, generator=generator)
    x += 0.3 * torch.randn(TOKENS, IN, generator=generator) + shift
    w, b = torch.randn(OUT, IN, generator=generator), torch.randn(OUT, generator=generator)
    return x.to(device), w.to(device), b.to(device)


def gone() -> torch.Tensor:
    return torch.tensor(sorted(set(range(IN)) - set(KEPT.tolist())))


@pytest.mark.parametrize("device", DEVICES)
def test_without_a_bias_it_is_least_squares(device: str) -> None:
    x, w, _ = data(device, shift=1.0)
    found = refit(w, None, Inputs.of(x, True), KEPT.to(device), 1e-6)
    best = torch.linalg.lstsq(x[:, KEPT], x @ w.T).solution.T
    torch.testing.assert_close(found.weight[:, KEPT], best, atol=2e-3, rtol=2e-3)
    assert not found.weight[:, gone()].any()
    assert found.bias is None


def test_with_a_bias_it_is_least_squares_with_a_constant() -> None:
    x, w, b = data(shift=2.0)
    found = refit(w, b, Inputs.of(x, True), KEPT, 1e-6)
    with_one = torch.cat([x[:, KEPT], torch.ones(TOKENS, 1)], 1)
    best = torch.linalg.lstsq(with_one, x @ w.T + b).solution.T
    assert found.bias is not None
    torch.testing.assert_close(found.weight[:, KEPT], best[:, :-1], atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(found.bias, best[:, -1], atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("compensate", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_error_is_what_the_data_say(with_bias: bool, compensate: bool) -> None:
    x, w, b = data(shift=0.5)
    found = refit(w, b if with_bias else None, Inputs.of(x, True), KEPT, 0.01, compensate)
    moved = x @ (w - found.weight).T + (b - found.bias if found.bias is not None else 0)
    expected = float(moved.square().sum() / (x @ w.T).square().sum())
    assert found.error == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("damping", [1e-6, 0.01, 1.0])
def test_compensation_is_never_worse_and_less_damping_is_better_here(damping: float) -> None:
    x, w, b = data(shift=0.5)
    inputs = Inputs.of(x, True)
    for bias in (None, b):
        plain = refit(w, bias, inputs, KEPT, damping, compensate=False).error
        assert refit(w, bias, inputs, KEPT, damping).error <= plain
        assert refit(w, bias, inputs, KEPT, 1e-6).error <= refit(w, bias, inputs, KEPT, damping).error + 1e-6


def test_what_contributes_nothing_changes_nothing() -> None:
    x, w, b = data()
    x[:, gone()] = 0
    found = refit(w, b, Inputs.of(x, True), KEPT, 0.01)
    torch.testing.assert_close(found.weight[:, KEPT], w[:, KEPT])
    torch.testing.assert_close(found.bias, b)
    assert found.error == 0


def test_constant_inputs_go_into_the_bias() -> None:
    x, w, b = data()
    x[:, gone()] = 3.0
    found = refit(w, b, Inputs.of(x, True), KEPT, 0.01)
    assert found.error < 1e-5
    assert found.bias is not None
    torch.testing.assert_close(found.bias, b + w[:, gone()].sum(1) * 3, atol=1e-2, rtol=1e-2)


def test_weights_that_were_pruned_before_stay_zero() -> None:
    x, w, b = data(shift=0.5)
    for share in (0.3, 0.9):
        w[torch.rand(w.shape, generator=torch.Generator().manual_seed(1)) < share] = 0
        for bias in (None, b):
            found = refit(w, bias, Inputs.of(x, True), KEPT, 0.01)
            assert not found.weight[w == 0].any()
            assert found.error <= refit(w, bias, Inputs.of(x, True), KEPT, 0.01, compensate=False).error


def test_dead_inputs_do_no_harm() -> None:
    _, w, b = data()
    found = refit(w, b, Inputs.of(torch.zeros(TOKENS, IN), True), KEPT, 0.01)
    assert torch.isfinite(found.weight).all()


@pytest.mark.parametrize("want_gram", [True, False])
def test_statistics_of_parts_merge_into_those_of_the_whole(want_gram: bool) -> None:
    x, _, _ = data(shift=0.7)
    whole = Inputs.of(x, want_gram)
    merged = Inputs.of(x[:150], want_gram).merged(Inputs.of(x[150:], want_gram))
    torch.testing.assert_close(merged.mean, x.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged.magnitude, x.abs().mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged.variance, x.var(0, correction=0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(merged.squares, whole.squares, atol=1e-5, rtol=1e-5)
    if want_gram:
        torch.testing.assert_close(merged.gram, whole.gram, atol=1e-4, rtol=1e-4)


def test_damping_grows_until_there_is_a_factor() -> None:
    gram = -torch.eye(IN)
    gram[0, 0] = 20.0
    factor = factored(gram, 0.1)
    assert torch.isfinite(factor).all()
    with pytest.raises(EngineError, match="positive definite"):
        factored(torch.full((2, 2), torch.nan), 0.1)
