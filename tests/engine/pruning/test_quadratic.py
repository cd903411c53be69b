"""Errors from a Gram matrix are those of the inputs; damping grows until there is a factor."""

from __future__ import annotations

import itertools

import pytest
import torch

from engine.errors import EngineError
from engine.pruning.quadratic import energy, factors, gram_error

IN = 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gram_error_is_that_of_the_inputs(dtype: torch.dtype) -> None:
    """Also where the weights differ by less than their format tells apart in a subtraction."""
    x = torch.randn(500, IN)
    w = torch.randn(7, IN).to(dtype)
    after = w * (torch.rand(7, IN) > 0.5)
    solved = torch.where(after == 0, after, after * 1.3 + 0.01).to(dtype)
    gram = x.T @ x / 500
    for new in (after, solved):
        expected = float((x @ (w.float() - new.float()).T).norm() / (x @ w.float().T).norm()) ** 2
        assert gram_error(w, new, gram, energy(w, gram)) == pytest.approx(expected, rel=1e-4)


def test_nothing_to_lose_is_no_error() -> None:
    w = torch.zeros(2, IN)
    assert gram_error(w, w, torch.eye(IN), energy(w, torch.eye(IN))) == 0


def test_factors_are_those_that_exist_with_ever_more_damping() -> None:
    gram = -torch.eye(IN)
    found = itertools.islice(factors(gram, torch.tensor(0.2)), 2)
    for lower, damping in zip(found, (2.0, 20.0), strict=True):
        torch.testing.assert_close(lower @ lower.T, gram + damping * torch.eye(IN))


def test_there_is_an_end_to_it() -> None:
    with pytest.raises(EngineError, match="positive definite"):
        next(factors(torch.full((2, 2), torch.nan), torch.tensor(0.1)))
