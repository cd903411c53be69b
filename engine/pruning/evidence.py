"""What a score of parts (scores/) decides on, and how many parts stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.errors import UsageError


@dataclass(frozen=True)
class Evidence:
    """What is known of P parts, in float32: of the inputs that they fill, of the matrix that reads these, of their weights.

    `variance` and `magnitude` (mean |x|) are [P, C], for the C inputs a part fills; `norms` [P, C] are the squared norms of
    the columns that read them; `weights` [P] the squared norm of all weights that leave with a part. `gram` [I, I] is the
    Gram matrix of all inputs, `reader` [O, I] the one matrix that reads them, where there is one; `count` parts are to stay.
    `influence` [P] is 1 - cos(input, output), for parts that are blocks; blocks have no inputs of their own.
    """

    weights: torch.Tensor
    generator: torch.Generator
    variance: torch.Tensor | None = None
    magnitude: torch.Tensor | None = None
    norms: torch.Tensor | None = None
    influence: torch.Tensor | None = None
    gram: torch.Tensor | None = None
    reader: torch.Tensor | None = None
    count: int = 1
    damping: float = 0.01


Score = Callable[[Evidence], torch.Tensor]
"""evidence -> [P]; what scores lowest goes"""


def missing(pattern: str, score: str) -> UsageError:
    """For a score that has nothing to go by in a pattern."""
    return UsageError(f"score {score} does not know pattern {pattern}", where="step.score", hint='score = "auto"')


def best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The indices of the highest scores, in order; of equal ones the first."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values


def counts(parts: int, sparsity: float, multiple: int) -> list[int]:
    """How many of `parts` may stay, the one nearest to the sparsity first. Raises UsageError when that is all of them."""
    target = parts * (1 - sparsity)
    possible = range(multiple, parts + 1, multiple)
    ordered = sorted({*possible, parts}, key=lambda count: (abs(count - target), -count))
    if ordered[0] == parts:
        smallest = parts - max((count for count in possible if count < parts), default=parts)
        hint = f"sparsity {smallest / parts:.3g} removes {smallest}" if smallest else "multiple = 1"
        message = f"sparsity {sparsity:g} of {parts} parts, in multiples of {multiple}, removes nothing"
        raise UsageError(message, where="step.sparsity", hint=hint)
    return [count for count in ordered if count < parts]
