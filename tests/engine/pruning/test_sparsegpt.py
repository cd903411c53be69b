"""SparseGPT against the paper's algorithm written out, and against least squares where it is exact."""

from __future__ import annotations

import itertools

import pytest
import torch
from fixtures.models import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.matrices import Statistics
from engine.pruning.criteria import sparsegpt
from engine.pruning.criterion import Settings
from engine.pruning.masks import Pattern, Stack


def solve(w: torch.Tensor, statistics: Statistics, pattern: Pattern, settings: Settings) -> torch.Tensor:
    return sparsegpt.solve(w, statistics, Stack((len(w),), (pattern,)), settings)


def textbook(w: torch.Tensor, gram: torch.Tensor, pattern: Pattern, damping: float, block: int) -> torch.Tensor:
    """Algorithm 1 of arXiv 2301.00774, column by column in float64: mask a block when it is reached, then for each
    column put the error of what goes on all columns to the right."""
    w, gram = w.double().clone(), gram.double()
    hessian = gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    keep = torch.ones_like(w, dtype=torch.bool)
    for j in range(w.shape[1]):
        if j % block == 0:
            cost = w[:, j : j + block].square() / upper.diagonal()[j : j + block].square()
            keep[:, j : j + block] = pattern.keep(cost)
        wrong = torch.where(keep[:, j], 0.0, w[:, j] / upper[j, j])
        w[:, j:] -= wrong[:, None] * upper[j, j:]
        w[:, j] *= keep[:, j]
    return w.float()


def layer(seed: int, out: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4 * width, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return torch.randn(out, width, generator=generator), x


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("pattern", "block_size", "block"),
    [
        (Pattern(0.5), 32, 32), (Pattern(0.5), 64, 64), (Pattern(0.25), 128, 96), (Pattern(0.5, scope="row"), 32, 32),
        (Pattern(0.5, (2, 4)), 128, 4), (Pattern(0.5, (2, 4)), 8, 4), (Pattern(0.5, (4, 8)), 128, 8),
        (Pattern(0.75, (1, 4)), 32, 4),
    ],
)  # fmt: skip
def test_it_is_the_papers_algorithm(pattern: Pattern, block_size: int, block: int, device: str) -> None:
    for seed in range(3):
        w, x = layer(seed, 16, 96)
        statistics = Statistics.of(x.to(device), want_gram=True)
        assert statistics.gram is not None
        found = solve(w.to(device), statistics, pattern, Settings(0.01, block_size)).cpu()
        expected = textbook(w, statistics.gram.cpu(), pattern, 0.01, block)
        assert torch.equal(found == 0, expected == 0)
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


@given(st.integers(0, 200), st.integers(1, 7))
def test_it_is_least_squares_where_what_goes_comes_first(seed: int, count: int) -> None:
    """One row of 8 whose first `count` weights are tiny: they go, and the rest is the exact refit."""
    w, x = layer(seed, 1, 8)
    w = w.sign() * (1 + w.abs())
    w[:, :count] *= 1e-4
    statistics = Statistics.of(x, want_gram=True)
    assert statistics.gram is not None
    found = solve(w, statistics, Pattern(count / 8), Settings(damping=1e-6))
    gram = statistics.gram.double()
    gram = gram + 1e-6 * gram.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    rest = slice(count, None)
    refit = torch.linalg.solve(gram[rest, rest], gram[rest] @ w[0].double())
    assert (found[0, :count] == 0).all()
    torch.testing.assert_close(found[0, rest], refit.float(), atol=1e-3, rtol=1e-3)


@given(st.integers(0, 200), st.sampled_from([2, 4, 6]))
def test_it_is_optimal_where_inputs_are_uncorrelated(seed: int, count: int) -> None:
    """Brute force over all masks of one row of 8: with a diagonal Gram matrix nothing can be made up for."""
    generator = torch.Generator().manual_seed(seed)
    w, size = torch.randn(1, 8, generator=generator), torch.rand(8, generator=generator) + 0.1
    statistics = Statistics(9, size, size.diag(), torch.zeros(0, 8))
    found = solve(w, statistics, Pattern(count / 8), Settings(damping=1e-9))
    cost = w[0].square() * size
    best = min(float(cost[list(gone)].sum()) for gone in itertools.combinations(range(8), count))
    assert float(((w - found)[0].square() * size).sum()) == pytest.approx(best, rel=1e-4)
    torch.testing.assert_close(found, w * (found != 0), atol=1e-5, rtol=1e-5)


def test_a_singular_gram_matrix_gets_more_damping() -> None:
    x = torch.ones(10, 64)
    statistics = Statistics.of(x, want_gram=True)
    w = torch.randn(4, 64)
    found = solve(w, statistics, Pattern(0.5), Settings(damping=1e-8))
    assert torch.isfinite(found).all()
    assert int((found == 0).sum()) == 128
    with pytest.raises(EngineError, match="not positive definite") as caught:
        solve(w, statistics, Pattern(0.5), Settings(damping=1e-15))
    assert caught.value.hint == "raise the damping"


def test_inputs_that_are_all_zero() -> None:
    statistics = Statistics.of(torch.zeros(10, 16), want_gram=True)
    found = solve(torch.randn(4, 16), statistics, Pattern(0.5), Settings())
    assert (found == 0).all()
