"""|W_ij| * ||X_j||: weights that small inputs meet go, compared within each row (Sun et al. 2023, arXiv 2306.11695)."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion


def score(weight_OI: torch.Tensor, statistics: Statistics, generator: torch.Generator) -> torch.Tensor:
    return weight_OI.abs() * statistics.mean_squares.sqrt()


CRITERION = Criterion(needs="diagonal", scope="row", score=score)
