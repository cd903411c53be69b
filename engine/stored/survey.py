"""Every matrix of a model, read so far that a large model takes no longer than it can be waited for."""

from __future__ import annotations

from engine.stored.difference import Difference, difference
from engine.stored.reading import MOST, read
from engine.summary import ModelSummary, TensorInfo

BUDGET = 1 << 28
"""weights that are read of a whole model"""
LEAST = 1 << 16


def most_of_one(matrices: int) -> int:
    """Weights that are read of one matrix of so many."""
    return max(LEAST, min(MOST, BUDGET // max(1, matrices)))


def zeros(summary: ModelSummary, tensor: TensorInfo, most: int) -> float:
    """The share of zeros in a matrix. Raises Unavailable where its values cannot be read."""
    return float((read(summary, tensor, most).values_RC == 0).mean())


def apart(summary: ModelSummary, tensor: TensorInfo, other: ModelSummary, twin: TensorInfo, most: int) -> Difference:
    """How far a matrix is from its twin of the same shape. Raises Unavailable where one of them cannot be read."""
    return difference(read(summary, tensor, most).values_RC, read(other, twin, most).values_RC)
