"""I_i = |w_i| / sum_j |w_j| within a layer; by rate, or by an absolute threshold below which weights go."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion


def score(weight_OI: torch.Tensor, statistics: Statistics, generator: torch.Generator) -> torch.Tensor:
    """Importance [O, I]; sums to one over the layer."""
    magnitude = weight_OI.abs()
    return magnitude / magnitude.sum()


CRITERION = Criterion(needs="nothing", score=score)
