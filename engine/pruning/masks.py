"""Projection onto a sparsity pattern: from scores [O, I] to the weights that stay. The only place that decides counts.

Ties are broken by position, so equal scores give equal masks everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from engine.errors import UsageError

Scope = Literal["layer", "row"]


@dataclass(frozen=True)
class Pattern:
    """What may stay: a share of the weights (`sparsity`, over the layer or per row), or N of every M along a row,
    or everything that scores at least `threshold`.
    """

    sparsity: float
    n_of_m: tuple[int, int] | None = None
    scope: Scope = "layer"
    threshold: float | None = None

    def keep(self, score_OI: torch.Tensor) -> torch.Tensor:
        """Mask [O, I] of the weights that stay; the lowest scores go."""
        if self.threshold is not None:
            return score_OI >= self.threshold
        if self.n_of_m:
            return keep_n_of_m(score_OI, *self.n_of_m)
        if self.scope == "row":
            return drop_lowest(score_OI, round(self.sparsity * score_OI.shape[1]))
        flat = drop_lowest(score_OI.reshape(1, -1), round(self.sparsity * score_OI.numel()))
        return flat.view(score_OI.shape)

    def of_columns(self, rows: int, start: int, end: int) -> Pattern:
        """The same for columns start..end of a matrix of so many rows: the parts' counts add up to the whole's."""
        if self.n_of_m:
            return self
        each = 1 if self.scope == "row" else rows
        count = round(self.sparsity * each * end) - round(self.sparsity * each * start)
        return replace(self, sparsity=count / (each * (end - start)))

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raises UsageError when a matrix of this shape cannot have the pattern."""
        if self.n_of_m and shape[1] % self.n_of_m[1]:
            n, m = self.n_of_m
            hint = "choose an M that divides the width, or the unstructured pattern"
            raise UsageError(
                f"pattern {n}:{m} does not fit: {m} does not divide the width {shape[1]}", where=name, hint=hint
            )


def drop_lowest(score_RC: torch.Tensor, count: int) -> torch.Tensor:
    """Mask [R, C] without the `count` lowest entries of each row; among equal ones the first go."""
    if count == 0:
        return torch.ones_like(score_RC, dtype=torch.bool)
    limit_R1 = score_RC.kthvalue(count, dim=1, keepdim=True).values
    below = score_RC < limit_R1
    ties = score_RC == limit_R1
    missing_R1 = count - below.sum(1, keepdim=True)
    return ~(below | (ties & (ties.cumsum(1) <= missing_R1)))


def keep_n_of_m(score_OI: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask [O, I] with the N highest of every M neighbours in a row; among equal ones the first stay."""
    groups = score_OI.reshape(-1, m)
    order = groups.argsort(dim=1, descending=True, stable=True)[:, :n]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True).view(score_OI.shape)
