"""Long rows of figures kept short: what a chart or a list of them shows stays, whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import Any, TypeVar

CURVE_POINTS = 2048
"""what a curve keeps at least of a run that says more"""
MOST = 2 * CURVE_POINTS
"""and at most"""

Point = TypeVar("Point")
Measure = Callable[[Point], Any]


def thinned(points: Sequence[Point], *measures: Measure[Point]) -> list[Point]:
    """About half of them, in order: the first, the last, and of every few between the least one by each of the measures; so
    that the least of all by each stays, however often this is done.
    """
    inner, size = points[1:-1], 2 * len(measures)
    kept = [*points[:1]]
    for begin in range(0, len(inner), size):
        part = inner[begin : begin + size]
        least = {min(range(len(part)), key=[measure(one) for one in part].__getitem__) for measure in measures}
        kept += [part[index] for index in sorted(least)]
    return [*kept, *points[1:][-1:]]


def finite(value: float) -> float:
    """The value, and more than any where it is none: a training that diverged is worst there."""
    return value if isfinite(value) else inf
