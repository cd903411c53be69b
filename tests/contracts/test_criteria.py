"""Laws of every registered criterion: a new file in engine/pruning/criteria is tested here without further edits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures.models import DEVICES

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.masks import Pattern
from engine.registry import CRITERIA

NAMES = CRITERIA.names()
PATTERNS = {
    "layer 50%": Pattern(0.5),
    "layer 30%": Pattern(0.3),
    "layer 77%": Pattern(0.77),
    "row 50%": Pattern(0.5, scope="row"),
    "row 30%": Pattern(0.3, scope="row"),
    "2:4": Pattern(0.5, (2, 4)),
    "4:8": Pattern(0.5, (4, 8)),
}
OUT, IN, TOKENS = 12, 200, 600  # wider than one block of a solver, and not a multiple of it


def criterion(name: str) -> Criterion:
    found: Criterion = CRITERIA.load(name).CRITERION
    return found


def layer(
    seed: int = 0, out: int = OUT, width: int = IN, dead: int = 0, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [out, width], and inputs [TOKENS, width], correlated and of very different sizes, the last `dead` zero."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width // 2, width, generator=generator)
    x = torch.randn(TOKENS, width // 2, generator=generator) @ mix
    x = (x + 0.3 * x.std() * torch.randn(TOKENS, width, generator=generator)) * torch.randn(
        width, generator=generator
    ).exp()
    if dead:
        x[:, -dead:] = 0
    return torch.randn(out, width, generator=generator).to(device), x.to(device)


def prune(name: str, w: torch.Tensor, x: torch.Tensor, pattern: Pattern, seed: int = 0) -> torch.Tensor:
    statistics = Statistics.of(x, want_gram=True)
    return criterion(name).prune([w], statistics, [pattern], Settings(), [torch.Generator().manual_seed(seed)])[0]


def error(w: torch.Tensor, pruned: torch.Tensor, x: torch.Tensor) -> float:
    return float((x @ (w - pruned).T).norm() / (x @ w.T).norm()) ** 2


def assert_pattern(zeros: torch.Tensor, pattern: Pattern) -> None:
    """Exactly the pattern, not one zero more."""
    if pattern.n_of_m:
        n, m = pattern.n_of_m
        assert (zeros.reshape(-1, m).sum(1) == m - n).all()
    elif pattern.scope == "row":
        assert (zeros.sum(1) == round(pattern.sparsity * zeros.shape[1])).all()
    else:
        assert int(zeros.sum()) == round(pattern.sparsity * zeros.numel())


@pytest.mark.parametrize("name", NAMES)
def test_a_criterion_is_a_score_or_a_solver(name: str) -> None:
    found = criterion(name)
    assert (found.score is None) != (found.solve is None)
    assert CRITERIA.summary(name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_the_pattern_is_exact_and_everything_finite(name: str, pattern: Pattern, device: str) -> None:
    w, x = layer(device=device)
    before = w.clone()
    pruned = prune(name, w, x, pattern)
    assert pruned.shape == w.shape
    assert pruned.dtype == torch.float32
    assert torch.isfinite(pruned).all()
    assert torch.equal(w, before), "the weight given is left alone"
    assert_pattern(pruned == 0, pattern)


@pytest.mark.parametrize("shape", [(1, 8), (1, 1000), (8, 8), (3, 129), (7, 256), (5, 40)])
@pytest.mark.parametrize("sparsity", [0.1, 1 / 3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("scope", ["layer", "row"])
@pytest.mark.parametrize("name", NAMES)
def test_counts_are_exact_for_every_shape(name: str, scope: str, sparsity: float, shape: tuple[int, int]) -> None:
    pattern = Pattern(sparsity, scope=scope)
    w, x = layer(1, *shape)
    assert_pattern(prune(name, w, x, pattern) == 0, pattern)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_weights(name: str, pattern: Pattern) -> None:
    w, x = layer()
    assert torch.equal(prune(name, w, x, pattern), prune(name, w.clone(), x.clone(), pattern))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random"}))
def test_permuted_rows_give_permuted_results(name: str, pattern: Pattern) -> None:
    w, x = layer()
    order = torch.randperm(OUT, generator=torch.Generator().manual_seed(1))
    permuted, straight = prune(name, w[order], x, pattern), prune(name, w, x, pattern)[order]
    assert torch.equal(permuted == 0, straight == 0)
    torch.testing.assert_close(permuted, straight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_dead_inputs_do_no_harm_and_go_first(name: str, pattern: Pattern) -> None:
    w, x = layer(dead=40)
    pruned = prune(name, w, x, pattern)
    assert torch.isfinite(pruned).all()
    zeros = pruned == 0
    least = torch.zeros_like(zeros)
    if pattern.n_of_m:
        n, m = pattern.n_of_m
        assert (zeros.reshape(-1, m).sum(1) >= m - n).all()
    else:
        assert int(zeros.sum()) >= round(pattern.sparsity * w.numel())
        if criterion(name).needs != "nothing":
            least[:, -40:] = True
    assert zeros[least].all(), "a weight whose input is always zero costs nothing"


@pytest.mark.parametrize("name", NAMES)
def test_sparsity_zero_changes_nothing_that_is_met(name: str) -> None:
    w, x = layer()
    rounding = 1e-4 if criterion(name).solve else 0.0
    for pattern in (Pattern(0.0), Pattern(0.0, scope="row")):
        torch.testing.assert_close(prune(name, w, x, pattern), w, atol=rounding, rtol=0.0)


@pytest.mark.parametrize("name", [name for name in NAMES if criterion(name).score])
def test_a_score_leaves_what_stays_as_it_was(name: str) -> None:
    w, x = layer()
    pruned = prune(name, w, x, Pattern(0.5))
    assert torch.equal(pruned, w * (pruned != 0))


@pytest.mark.parametrize("name", NAMES)
def test_fewer_inputs_than_columns_are_enough(name: str) -> None:
    w, x = layer()
    pruned = prune(name, w, x[:7], Pattern(0.5))
    assert torch.isfinite(pruned).all()
    assert_pattern(pruned == 0, Pattern(0.5))


@pytest.mark.parametrize("name", NAMES)
def test_a_matrix_that_met_nothing_is_pruned_all_the_same(name: str) -> None:
    w, _ = layer()
    nothing = Statistics.none(IN, True, w.device)
    for pattern in PATTERNS.values():
        pruned = criterion(name).prune([w], nothing, [pattern], Settings(), [torch.Generator().manual_seed(0)])[0]
        assert_pattern(pruned == 0, pattern)


@pytest.mark.parametrize("pattern", [Pattern(0.5, scope="row"), Pattern(0.5, (2, 4))], ids=["row 50%", "2:4"])
def test_the_order_of_the_criteria(pattern: Pattern) -> None:
    """Output error over random layers with correlated inputs: each criterion that knows more does better."""
    order = ["admm", "sparsegpt", "wanda", "magnitude", "random"]
    assert set(order) <= set(NAMES)
    mean = dict.fromkeys(NAMES, 0.0)
    for seed in range(10):
        w, x = layer(seed)
        for name in NAMES:
            mean[name] += error(w, prune(name, w, x, pattern, seed), x) / 10
    assert sorted(order, key=lambda name: mean[name]) == order, mean
    for name in NAMES:
        if criterion(name).needs != "nothing":
            assert mean[name] < mean["random"], f"{name} is no better than chance"
        if criterion(name).solve:
            assert mean[name] < mean["wanda"], f"{name} solves, and is no better than a score"


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_matrices_that_share_an_input_are_pruned_as_if_alone(name: str, pattern: Pattern) -> None:
    w, x = layer(out=20)
    statistics = Statistics.of(x, want_gram=True)
    parts = list(torch.split(w, [12, 8]))
    patterns = [pattern, pattern if pattern.n_of_m else replace(pattern, sparsity=pattern.sparsity / 2)]
    together = criterion(name).prune(parts, statistics, patterns, Settings(), [fresh(), fresh()])
    for part, one, found in zip(parts, patterns, together, strict=True):
        alone = criterion(name).prune([part], statistics, [one], Settings(), [fresh()])[0]
        assert_pattern(found == 0, one)
        if criterion(name).solve:  # iterations stop by what all of them do
            assert error(part, found, x) < 1.1 * error(part, alone, x) + 1e-6
        else:
            assert torch.equal(found, alone)


def fresh() -> torch.Generator:
    return torch.Generator().manual_seed(0)
