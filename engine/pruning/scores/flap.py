"""Variance of a part's activations times the squared norm of the weights that read them (FLAP, arXiv 2312.11983).

What varies little can be replaced by its mean, or by a combination of what stays.
"""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence

PATTERNS = {"channels", "heads", "hidden"}


def score(evidence: Evidence) -> torch.Tensor:
    assert evidence.variance is not None
    assert evidence.norms is not None
    return (evidence.variance * evidence.norms).sum(1)
