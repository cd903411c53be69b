"""ADMM against brute force and least squares, and the projection that its iterations use."""

from __future__ import annotations

import itertools

import pytest
import torch
from fixtures.models import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from engine.matrices import Statistics
from engine.pruning import criterion as criteria
from engine.pruning.criteria import admm
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.masks import NearlyKeep, Pattern, Stack, near_limit
from engine.registry import CRITERIA


def layer(seed: int, out: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6 * width, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return torch.randn(out, width, generator=generator), x


def error(w: torch.Tensor, other: torch.Tensor, gram: torch.Tensor) -> float:
    difference = (w - other).double()
    return float((difference @ gram.double() * difference).sum())


def least_squares(w: torch.Tensor, gram: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """The best weights with that support, row by row: B_K = (W G)_K (G_KK)⁻¹."""
    out = torch.zeros_like(w, dtype=torch.float64)
    for row, mask in enumerate(keep):
        right = (w[row].double() @ gram.double())[mask]
        out[row, mask] = torch.linalg.solve(gram.double()[mask][:, mask], right)
    return out.float()


@pytest.mark.parametrize("device", DEVICES)
def test_the_refit_is_least_squares_on_the_support(device: str) -> None:
    w, x = layer(0, 5, 24)
    gram, _ = admm.normalized(Statistics.of(x, want_gram=True).gram, 0.01)
    keep = torch.rand(5, 24, generator=torch.Generator().manual_seed(1)) > 0.5
    found = admm.refit(w.to(device), w.to(device), gram.to(device), keep.to(device), steps=60).cpu()
    best = least_squares(w, gram, keep)
    assert error(w, found, gram) <= error(w, best, gram) * (1 + 1e-3)
    assert torch.equal(found != 0, keep)


def test_brute_force_on_four_by_six() -> None:
    """Over all masks of half of each row: never below the optimum, on the mean much nearer to it than SparseGPT."""
    masks = [torch.tensor([i in chosen for i in range(6)]) for chosen in itertools.combinations(range(6), 3)]
    pattern, ratios = Pattern(0.5, scope="row"), {name: [] for name in ("admm", "sparsegpt", "wanda")}
    for seed in range(20):
        w, x = layer(seed, 4, 6)
        statistics = Statistics.of(x, want_gram=True)
        gram = statistics.gram
        assert gram is not None
        best = sum(
            min(error(w[row : row + 1], least_squares(w[row : row + 1], gram, mask[None]), gram) for mask in masks)
            for row in range(4)
        )
        for name, found in ratios.items():
            loaded: Criterion = CRITERIA.load(name).CRITERION
            settings = Settings(damping=1e-4, polish=30)
            pruned = loaded.prune([w], statistics, [pattern], settings, [torch.Generator()])[0]
            assert error(w, pruned, gram) >= best * (1 - 1e-4)
            found.append(error(w, pruned, gram) / best)
    mean = {name: sum(found) / len(found) for name, found in ratios.items()}
    assert mean["admm"] < 1.6, mean
    assert mean["admm"] < mean["sparsegpt"] < mean["wanda"], mean


@given(
    st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=300),
    st.floats(0, 0.99),
    st.none() | st.floats(1e-6, 1e6),
)
def test_a_limit_found_by_search_is_finite_and_keeps_something(
    scores: list[float], sparsity: float, guess: float | None
) -> None:
    score = torch.tensor(scores)
    limit = near_limit(score, round(sparsity * len(scores)), guess)
    assert 0 <= limit < float("inf")


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("guess", [None, 1e-3, 1.0, 30.0])
def test_a_limit_counts_to_within_its_tolerance(sparsity: float, guess: float | None) -> None:
    score = torch.randn(200, 300, generator=torch.Generator().manual_seed(0)).abs()
    count = round(sparsity * score.numel())
    below = int((score < near_limit(score, count, guess)).sum())
    assert abs(below - count) <= 1e-3 * score.numel()


def test_the_projection_of_the_iterations_is_exact_by_row_and_by_group() -> None:
    score = torch.rand(6, 32, generator=torch.Generator().manual_seed(0))
    for pattern in (Pattern(0.5, scope="row"), Pattern(0.5, (2, 4))):
        assert torch.equal(NearlyKeep(Stack((6,), (pattern,)))(score), pattern.keep(score))


def test_a_decomposition_is_made_once_for_matrices_and_sparsities(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: made.append(1) or eigh(gram))
    w, x = layer(0, 8, 16)
    statistics = Statistics.of(x, want_gram=True)
    for sparsity in (0.3, 0.5, 0.7):
        admm.CRITERION.prune([w, w], statistics, [Pattern(sparsity)] * 2, Settings(), [torch.Generator()] * 2)
    assert len(made) == 1


@pytest.mark.parametrize("name", ["admm", "sparsegpt"])
@pytest.mark.parametrize("pattern", [Pattern(0.5, scope="row"), Pattern(0.37), Pattern(0.5, (2, 4))])
def test_large_layers_go_through_in_chunks_of_rows(
    name: str, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: Criterion = CRITERIA.load(name).CRITERION
    w, x = layer(0, 20, 16)
    statistics = Statistics.of(x, want_gram=True)

    def prune() -> list[torch.Tensor]:
        parts = list(torch.split(w, [13, 7]))
        return loaded.prune(parts, statistics, [pattern] * 2, Settings(), [torch.Generator()] * 2)

    whole = prune()
    monkeypatch.setattr(criteria, "WORK", 5 * 16)
    chunked = prune()
    errors = [sum(error(part, found, statistics.gram) for part, found in zip(torch.split(w, [13, 7]), parts, strict=True))
              for parts in (whole, chunked)]  # fmt: skip
    assert errors[1] < 1.3 * errors[0]
    for a, b in zip(whole, chunked, strict=True):
        assert int((a == 0).sum()) == int((b == 0).sum())
