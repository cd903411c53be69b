"""How much a block turns its input: 1 - cos(input, output), averaged over tokens (ShortGPT, arXiv 2403.03853)."""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence

PATTERNS = {"blocks"}


def score(evidence: Evidence) -> torch.Tensor:
    assert evidence.influence is not None
    return evidence.influence
