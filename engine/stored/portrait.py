"""What a matrix's values look like: their spread as a histogram, their zeros, and the N:M pattern that these keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.stored.reading import Values

BINS = 120
SPREAD = 4.0
"""the histogram's edges, in standard deviations of what is not zero"""
GROUPS = (4, 8, 16)
CORNER = (8, 32)


@dataclass(frozen=True)
class Portrait:
    """`counts` of the weights that are not zero, in equal steps from -`edge` to `edge`; `beyond` of them lie outside.

    `kept` says for groups of M neighbours in a row what share of them keeps 0, 1, ... M weights. `corner` is the mask of the
    first rows and columns, True where a weight is.
    """

    weights: int
    zeros: int
    mean: float
    deviation: float
    low: float
    high: float
    edge: float
    counts: tuple[int, ...]
    beyond: int
    kept: dict[int, tuple[float, ...]]
    corner: NDArray[np.bool_]

    @property
    def pattern(self) -> str:
        """The N:M pattern that every group keeps, of the smallest M that has one; "" where there is none."""
        for group, shares in self.kept.items():
            most = max(count for count, share in enumerate(shares) if share)
            if 0 < most < group:
                return f"{most}:{group}"
        return ""


def portrait(values_RC: Values) -> Portrait:
    """Describes a matrix [R, C], which must not be empty."""
    mask_RC = values_RC != 0
    there = values_RC[mask_RC]
    if there.size == 0:
        there = np.zeros(1, np.float32)
    deviation = float(there.std(dtype=np.float64))
    edge = SPREAD * deviation or float(np.abs(there).max()) or 1.0
    counts, _ = np.histogram(values_RC[mask_RC], BINS, (-edge, edge))
    present = int(mask_RC.sum())
    return Portrait(
        weights=values_RC.size, zeros=values_RC.size - present, mean=float(there.mean(dtype=np.float64)),
        deviation=deviation, low=float(values_RC.min()), high=float(values_RC.max()), edge=edge,
        counts=tuple(map(int, counts)), beyond=present - int(counts.sum()),
        kept={group: _kept(mask_RC, group) for group in GROUPS if values_RC.shape[1] % group == 0},
        corner=mask_RC[: CORNER[0], : CORNER[1]].copy(),
    )  # fmt: skip


def _kept(mask_RC: NDArray[np.bool_], group: int) -> tuple[float, ...]:
    """The shares of groups that keep 0, 1, ... `group` weights."""
    kept = mask_RC.reshape(-1, group).sum(1)
    return tuple(map(float, np.bincount(kept, minlength=group + 1) / kept.size))
