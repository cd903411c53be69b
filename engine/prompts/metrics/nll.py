"""The negative log-likelihood of the right choice among the choices, in nats: how sure of it the model is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN, LOWER = "choices", "nats", True


def values(log_probs_RC: NDArray[np.float64], gold_R: NDArray[np.int64]) -> NDArray[np.float64]:
    return -np.take_along_axis(log_probs_RC, gold_R[:, None], axis=1)[:, 0]
