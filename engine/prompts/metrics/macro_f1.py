"""The mean over the classes of F1, the harmonic mean of precision and recall: rare classes count as much as others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.prompts.metrics.accuracy import values as values

FOR, SHOWN = "labels", "percent"


def parts(log_probs_RC: NDArray[np.float64], gold_R: NDArray[np.int64]) -> NDArray[np.float64]:
    """[R, 3 C]: whether a row is a hit of each class, answered so, and truly so."""
    codes = np.eye(log_probs_RC.shape[1])
    answered, true = codes[log_probs_RC.argmax(1)], codes[gold_R]
    return np.concatenate([answered * true, answered, true], axis=1)


def figure(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 hits / (answered + true), the mean over the classes that are in the rows or in the answers."""
    hits, answered, true = np.split(sums_BK, 3, axis=1)
    met = answered + true > 0
    f1 = np.divide(2 * hits, answered + true, out=np.zeros_like(hits), where=met)
    means: NDArray[np.float64] = f1.sum(1) / met.sum(1)
    return means
