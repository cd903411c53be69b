"""The source document's importance I_i = |w_i| / sum_j |w_j|: sums, thresholds and the worked example in closed form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import workspace
from hypothesis import given
from hypothesis import strategies as st

from engine import builtin
from engine.calibration import Walk
from engine.errors import UsageError
from engine.matrices import Matrix, Statistics
from engine.pruning import step
from engine.pruning.criteria import importance
from engine.pruning.criterion import Settings
from engine.pruning.masks import Pattern
from engine.pruning.options import PruneOptions
from engine.pruning.step import check_threshold, equal_threshold

NOTHING = Statistics.none(1, False, torch.device("cpu"))


def weights(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrices(*tensors: torch.Tensor) -> list[Matrix]:
    return [Matrix(f"m{i}", 0, tensor, i) for i, tensor in enumerate(tensors)]


def prune(w: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    return importance.CRITERION.prune([w], NOTHING, [pattern], Settings(), [torch.Generator()])[0]


@given(st.integers(0, 100), st.integers(1, 20), st.integers(1, 50))
def test_importances_sum_to_one(seed: int, rows: int, columns: int) -> None:
    score = importance.score(weights(seed, rows, columns), NOTHING, torch.Generator())
    assert (score >= 0).all()
    assert float(score.double().sum()) == pytest.approx(1, abs=1e-5)


@given(st.integers(0, 100), st.floats(0.0, 0.95))
def test_the_threshold_that_a_rate_equals_prunes_the_same(seed: int, sparsity: float) -> None:
    w = weights(seed, 5, 40)
    by_rate = prune(w, Pattern(sparsity))
    theta = equal_threshold(w, Pattern(sparsity))
    assert torch.equal(prune(w, Pattern(0.0, threshold=theta)), by_rate)


@given(st.integers(0, 200), st.integers(1, 4))
def test_a_threshold_that_empties_a_layer_names_the_largest_that_does_not(seed: int, layers: int) -> None:
    found = matrices(*(weights(seed + i, 3, 4 + 3 * i) for i in range(layers)))
    with pytest.raises(UsageError, match=rf"removes every weight of {layers} of {layers} matrices") as caught:
        check_threshold(found, 1.01)
    assert caught.value.where == "m0"
    named = float(re.findall(r"[-\d.e]+$", caught.value.hint or "")[0])
    check_threshold(found, named)  # what the hint says works
    assert all(prune(m.weight, Pattern(0.0, threshold=named)).any() for m in found)
    with pytest.raises(UsageError):
        check_threshold(found, named * 1.0001)


def test_the_documents_own_threshold_cannot_serve() -> None:
    module, _ = builtin.linear(0)
    with pytest.raises(UsageError, match="threshold 0.1 removes every weight of 1 of 1"):
        check_threshold(matrices(module.linear.weight.detach()), 0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_worked_example_in_closed_form(seed: int) -> None:
    module, features = builtin.linear(seed)
    w = module.linear.weight.detach()
    pruned = prune(w, Pattern(0.5))
    kept = torch.zeros(1000, dtype=torch.bool)
    kept[w[0].abs().argsort(descending=True)[:500]] = True
    assert torch.equal(pruned[0] != 0, kept)
    assert torch.equal(pruned[0][kept], w[0][kept])
    share = w[0].abs() / w[0].abs().sum()
    assert equal_threshold(w, Pattern(0.5)) == pytest.approx(float(share[kept].min()), rel=1e-6)
    assert float(share[~kept].max()) < equal_threshold(w, Pattern(0.5))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_built_in_model_is_the_ridge_solution_of_its_data(seed: int) -> None:
    module, features = builtin.linear(seed)
    x, y = features.x.astype(np.float64), 2.0 * features.y - 1
    w = module.linear.weight.detach().double().numpy()[0]
    assert x.shape == (100, 1000)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-6)
    np.testing.assert_allclose(x.T @ (x @ w) + w, x.T @ y, atol=1e-3)  # (X'X + I) w = X'y
    again, _ = builtin.linear(seed)
    assert torch.equal(again.linear.weight, module.linear.weight)


def test_the_threshold_told_is_that_of_every_matrixs_own_share(tmp_path: Path) -> None:
    space = workspace(tmp_path / "run", subject("llama"))
    dense = {m.name: (m.block, m.weight.clone()) for m in Walk.over(space).matrices}
    shares = {"0": 0.2, "1": 0.8}
    told = step.run(space, PruneOptions(use="prune", criterion="importance", sparsity=0.5, shares=shares))["threshold"]
    own = {name: equal_threshold(w, Pattern(shares[str(block)])) for name, (block, w) in dense.items()}
    assert told == pytest.approx(max(own.values()), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_in_half_precision_the_hint_serves_too(seed: int, dtype: torch.dtype) -> None:
    """The sum of the magnitudes is beyond float16 here, and half a percent off in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    found = matrices(*(torch.rand(512, 600, generator=generator).add(0.1).to(dtype) for _ in range(3)))
    with pytest.raises(UsageError, match="removes every weight") as error:
        check_threshold(found, 0.9)
    named = float(str(error.value.hint).split()[-1])
    assert named > 0
    check_threshold(found, named)
    assert all(prune(m.weight.float(), Pattern(0.0, threshold=named)).any() for m in found)
    assert equal_threshold(found[0].weight, Pattern(0.5)) > 0
