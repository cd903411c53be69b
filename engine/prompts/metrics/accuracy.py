"""The share of rows whose right choice is the likeliest one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN, BINARY = "choices", "percent", True


def values(log_probs_RC: NDArray[np.float64], gold_R: NDArray[np.int64]) -> NDArray[np.float64]:
    right: NDArray[np.float64] = (log_probs_RC.argmax(1) == gold_R).astype(float)
    return right
