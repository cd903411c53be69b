"""How far a matrix of one model is from the same matrix of another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.stored.reading import Values


@dataclass(frozen=True)
class Difference:
    """Shares of zeros in both; |B - A| and |A| as Frobenius norms; the cosine of the angle between them as vectors."""

    zeros_before: float
    zeros_after: float
    norm: float
    norm_before: float
    cosine: float

    @property
    def relative(self) -> float:
        """|B - A| / |A|, which is 1 where all of A is gone."""
        return self.norm / self.norm_before if self.norm_before else math.inf if self.norm else 0.0


def difference(before_RC: Values, after_RC: Values) -> Difference:
    """Compares the same rows of both; sums in float64."""
    a, b = (values.astype(np.float64).ravel() for values in (before_RC, after_RC))
    norm_a, norm_b = float(np.sqrt(a @ a)), float(np.sqrt(b @ b))
    apart = b - a
    same = 1.0 if norm_a == norm_b == 0 else 0.0
    return Difference(
        zeros_before=float((a == 0).mean()), zeros_after=float((b == 0).mean()),
        norm=float(np.sqrt(apart @ apart)), norm_before=norm_a,
        cosine=float(a @ b) / (norm_a * norm_b) if norm_a and norm_b else same,
    )  # fmt: skip
