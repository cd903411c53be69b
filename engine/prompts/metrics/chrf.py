"""chrF of every answer by itself: F2 of its character n-grams up to 6 (Popović 2015), the mean over the rows; by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN = "answers", "points"


def values(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    from sacrebleu import sentence_chrf

    pairs = zip(answers, references, strict=True)
    return np.array([sentence_chrf(answer, list(right)).score / 100 for answer, right in pairs])
