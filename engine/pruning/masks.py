"""Projection onto a sparsity pattern: from scores [O, I] to the weights that stay. The only place that decides counts.

Ties are broken by position, so equal scores give equal masks everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def of_rows(self, width: int, start: int, end: int) -> Pattern:
        """The same for rows start..end of a matrix of that width: the parts' counts add up to the whole's."""
        if self.n_of_m or self.scope == "row":
            return self
        count = round(self.sparsity * width * end) - round(self.sparsity * width * start)
        return replace(self, sparsity=count / (width * (end - start)))

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raises UsageError when a matrix of this shape cannot have the pattern."""
        if self.n_of_m and shape[1] % self.n_of_m[1]:
            n, m = self.n_of_m
            hint = "choose an M that divides the width, or the unstructured pattern"
            raise UsageError(
                f"pattern {n}:{m} does not fit: {m} does not divide the width {shape[1]}", where=name, hint=hint
            )


@dataclass(frozen=True)
class Stack:
    """Matrices that share an input, one above the other: as many rows as each has, and the pattern each is to get."""

    rows: tuple[int, ...]
    patterns: tuple[Pattern, ...]

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        return self.patterns[0].n_of_m

    def keep(self, score_OI: torch.Tensor) -> torch.Tensor:
        """Mask [O, I] of the weights that stay, each matrix by its own pattern."""
        return self._each(score_OI, lambda part, pattern: pattern.keep(part))

    def of_columns(self, start: int, end: int) -> Stack:
        """The same for columns start..end."""
        parts = zip(self.rows, self.patterns, strict=True)
        return Stack(self.rows, tuple(pattern.of_columns(rows, start, end) for rows, pattern in parts))

    def of_rows(self, most: int, width: int) -> list[Stack]:
        """Stacks of at most so many rows that are this one when put one above the other; itself where it is small enough."""
        if sum(self.rows) <= most:
            return [self]
        pieces = [
            (min(most, rows - start), pattern.of_rows(width, start, min(start + most, rows)))
            for rows, pattern in zip(self.rows, self.patterns, strict=True)
            for start in range(0, rows, most)
        ]
        return [Stack((rows,), (pattern,)) for rows, pattern in pieces]

    def split(self, weight_OI: torch.Tensor) -> list[torch.Tensor]:
        """The matrices by themselves."""
        return list(torch.split(weight_OI, list(self.rows)))

    def _each(self, score_OI: torch.Tensor, keep: Callable[[torch.Tensor, Pattern], torch.Tensor]) -> torch.Tensor:
        return torch.cat([keep(*pair) for pair in zip(self.split(score_OI), self.patterns, strict=True)])


class NearlyKeep:
    """A stack's projection for iterations: the count over a layer may miss by 0.1%, and the limit of the last call is where
    the search for the next begins. Much cheaper than an exact selection over a million scores.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._limits: list[float | None] = [None] * len(stack.rows)

    def __call__(self, score_OI: torch.Tensor) -> torch.Tensor:
        """Mask [O, I] of about the weights that stay."""
        masks = []
        for i, (part, pattern) in enumerate(zip(self._stack.split(score_OI), self._stack.patterns, strict=True)):
            if pattern.n_of_m or pattern.scope == "row" or pattern.threshold is not None:
                masks.append(pattern.keep(part))
                continue
            limit = near_limit(part, round(pattern.sparsity * part.numel()), self._limits[i])
            self._limits[i] = limit
            masks.append(part >= limit)
        return torch.cat(masks)


def near_limit(score: torch.Tensor, count: int, guess: float | None, tolerance: float = 1e-3) -> float:
    """A limit below which `count` of the scores (>= 0) lie, give or take `tolerance` of them all.

    False position between limits whose counts are known, from `guess` or from the quantile of a sample.
    """
    total = score.numel()
    if count == 0:
        return 0.0
    flat = score.reshape(-1)
    if guess is None:
        sample = flat[:: max(1, total // 4096)]
        guess = float(sample.kthvalue(max(1, round(count / total * len(sample)))).values)
    limit, low, high = guess, (0.0, 0), (float(score.max()), total)
    for attempt in range(20):
        found = int(torch.count_nonzero(flat < limit))
        if abs(found - count) <= tolerance * total:
            break
        if found < count:
            low = (limit, found)
            limit = min(limit * 1.1 ** (attempt + 1), high[0]) if high[1] == total else limit
        else:
            high = (limit, found)
            limit = limit / 1.1 ** (attempt + 1) if low[1] == 0 else limit
        if low[1] and high[1] < total:
            limit = low[0] + (high[0] - low[0]) * (count - low[1]) / (high[1] - low[1])
    return limit


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
    """Mask [O, I] with the N highest of every M neighbours in a row; among equal ones the first stay.

    A weight stays when fewer than N neighbours come before it; neighbours are compared pair by pair, column by column.
    """
    columns = [score_OI[:, i::m].contiguous() for i in range(m)]
    keep = torch.empty_like(score_OI, dtype=torch.bool)
    for i, mine in enumerate(columns):
        before = torch.zeros_like(mine, dtype=torch.uint8)
        for j, other in enumerate(columns):
            if j != i:
                before += other >= mine if j < i else other > mine
        keep[:, i::m] = before < n
    return keep
