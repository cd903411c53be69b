"""|W|: small weights go; needs no data."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion


def score(weight_OI: torch.Tensor, statistics: Statistics, generator: torch.Generator) -> torch.Tensor:
    return weight_OI.abs()


CRITERION = Criterion(needs="nothing", score=score)
