"""Means over the matrices of a model, in one place so that the report, the command line and the app show the same figures.

Sparsities are weighted by the matrices' parameters; errors and losses are not: they are relative to each matrix's output.
"""

from __future__ import annotations

from collections.abc import Iterable


def mean(values: Iterable[float | None]) -> float | None:
    """The plain mean of what is known, None where nothing is."""
    return weighted((value, 1) for value in values)


def weighted(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    """The mean of the known values, each with its weight."""
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def by_block(entries: Iterable[tuple[int, float | None, int]]) -> dict[int, float]:
    """{block: mean} of (block, value, weight), blocks in order; those without a known value are left out."""
    found: dict[int, list[tuple[float | None, int]]] = {}
    for block, value, weight in entries:
        found.setdefault(block, []).append((value, weight))
    means = {block: weighted(pairs) for block, pairs in sorted(found.items())}
    return {block: value for block, value in means.items() if value is not None}
