"""Correcting the label words' bias: log-likelihoods minus an offset per choice, fitted on development data.

`contextual`: the model's answer to content-free inputs (Zhao et al. 2021, arXiv 2102.09690). `batch`: the mean answer over
the development rows (Zhou et al. 2024, arXiv 2309.17249). Offsets are only defined where all rows share their choices.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.data.rows import Row
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

CONTENT_FREE = ("N/A", "", "[MASK]")


def offsets(kind: str, scores_RC: torch.Tensor, content_free_RC: torch.Tensor | None) -> torch.Tensor:
    """Log offsets [choices] from development scores and, for `contextual`, the scores of content-free inputs."""
    if kind == "none":
        return torch.zeros(scores_RC.shape[1], dtype=scores_RC.dtype)
    basis = scores_RC if kind == "batch" else content_free_RC
    assert basis is not None
    return basis.softmax(1).mean(0).log()


def apply(scores_RC: torch.Tensor, offsets_C: torch.Tensor) -> torch.Tensor:
    """Calibrated log-probabilities over the choices [rows, choices]."""
    return (scores_RC.log_softmax(1) - offsets_C).log_softmax(1)


def content_free_scores(scorer: Scorer, prompt: Prompt, row: Row) -> torch.Tensor:
    """Scores [3, choices] of the prompt filled with inputs that mean nothing."""
    rows = [replace(row, text=text, fields=dict.fromkeys(row.fields, text)) for text in CONTENT_FREE]
    return scorer.score(prompt, rows)
