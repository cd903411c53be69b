"""Norm of all weights that leave with a part; needs no activations."""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence

PATTERNS = {"channels", "heads", "hidden", "blocks"}


def score(evidence: Evidence) -> torch.Tensor:
    return evidence.weights.sqrt()
