"""(|W_ij| / row sum + |W_ij| / column sum) * ||X_j||^0.5: relative importance (Zhang et al., ICLR 2024)."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion


def score(weight_OI: torch.Tensor, statistics: Statistics, generator: torch.Generator) -> torch.Tensor:
    magnitude = weight_OI.abs()
    tiny = torch.finfo(magnitude.dtype).tiny
    relative = magnitude / magnitude.sum(0).clamp_min(tiny) + magnitude / magnitude.sum(1, keepdim=True).clamp_min(tiny)
    return relative * statistics.mean_squares.pow(0.25)  # the square root of the norm


CRITERION = Criterion(needs="diagonal", scope="row", score=score)
