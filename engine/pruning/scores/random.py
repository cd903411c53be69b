"""Parts at random, as a control."""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence

PATTERNS = {"channels", "heads", "hidden", "blocks"}


def score(evidence: Evidence) -> torch.Tensor:
    drawn = torch.rand(evidence.weights.shape, generator=evidence.generator)
    return drawn.to(evidence.weights.device)
