"""Mean magnitude of a part's activations over the calibration data (Minitron, arXiv 2407.14679)."""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence

PATTERNS = {"channels", "heads", "hidden"}


def score(evidence: Evidence) -> torch.Tensor:
    assert evidence.magnitude is not None
    return evidence.magnitude.sum(1)
