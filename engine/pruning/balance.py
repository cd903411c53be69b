"""Sparsities that keep a mean: moving them all by one number, within bounds. Pure numbers, no torch: the app edits by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")
"""what has a share: a matrix by name, a block by number"""

HIGHEST = 0.99
"""no matrix is planned sparser than this, unless the asked sparsity is"""
TOLERANCE = 2e-3
"""shares whose mean is farther than this from the step's sparsity are refused"""


def balanced(
    wishes: Mapping[Key, float], sizes: Mapping[Key, int], mean: float, low: float = 0.0, high: float = HIGHEST
) -> dict[Key, float]:
    """The wishes, all moved by one number and kept within [low, high], so that their mean weighted by size is `mean`."""
    low, high = min(low, mean), max(high, mean)
    total = sum(sizes[name] for name in wishes)

    def moved(by: float) -> dict[Key, float]:
        return {name: min(high, max(low, wish + by)) for name, wish in wishes.items()}

    start, end = low - max(wishes.values()), high - min(wishes.values())
    for _ in range(100):
        middle = (start + end) / 2
        found = sum(share * sizes[name] for name, share in moved(middle).items()) / total
        start, end = (middle, end) if found < mean else (start, middle)
    return moved(end)


def remainder(own: Mapping[Key, float], sizes: Mapping[Key, int], sparsity: float) -> float:
    """The mean sparsity that is left for those without a share of their own."""
    zeros = sparsity * sum(sizes.values()) - sum(share * sizes[key] for key, share in own.items())
    return zeros / max(1, sum(size for key, size in sizes.items() if key not in own))
