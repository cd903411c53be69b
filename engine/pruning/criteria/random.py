"""Uniform random numbers: the control that every criterion must beat."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion


def score(weight_OI: torch.Tensor, statistics: Statistics, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(weight_OI.shape, generator=generator).to(weight_OI.device)


CRITERION = Criterion(needs="nothing", score=score)
