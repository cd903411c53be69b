"""Correcting the label words' bias: log-likelihoods minus an offset per choice, fitted on development data.

`contextual`: the model's answer to content-free inputs (Zhao et al. 2021, arXiv 2102.09690). `domain`: its mean answer to texts
of random words that the development rows have, as long as these are (Fei et al. 2023, arXiv 2305.19148). `batch`: the mean
answer over the development rows (Zhou et al. 2024, arXiv 2309.17249). Offsets are only defined where all rows share their
choices.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from engine.data.rows import Row
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

CONTENT_FREE = ("N/A", "", "[MASK]")
RANDOM_TEXTS = 20  # as the paper has
MEANINGLESS = {"contextual": len(CONTENT_FREE), "domain": RANDOM_TEXTS}
"""inputs that every prompt is asked beside the budget, by kind of calibration"""


def meaningless(kind: str, rows: Sequence[Row], seed: int) -> list[Row]:
    """The inputs that mean nothing, the same for every prompt: none for a kind that needs none. No answer of a row is used."""
    if kind == "contextual":
        texts = [dict.fromkeys(rows[0].fields, text) for text in CONTENT_FREE]
    elif kind == "domain":
        texts = random_texts(rows, random.Random(f"domain {seed}"))
    else:
        return []
    return [replace(rows[0], text=" ".join(fields.values()), fields=fields) for fields in texts]


def random_texts(rows: Sequence[Row], generator: random.Random) -> list[dict[str, str]]:
    """Every field filled with words drawn from what the rows have there, each as likely as it is frequent, and as many of them
    as a row has on the mean.
    """
    words = {name: [word for row in rows for word in row.fields.get(name, "").split()] for name in rows[0].fields}

    def text(known: Sequence[str]) -> str:
        return " ".join(generator.choices(known, k=max(1, round(len(known) / len(rows))))) if known else ""

    return [{name: text(known) for name, known in words.items()} for _ in range(RANDOM_TEXTS)]


def offsets(kind: str, scores_RC: torch.Tensor, meaningless_RC: torch.Tensor | None) -> torch.Tensor:
    """Log offsets [choices] from development scores, or from the scores of meaningless inputs for the kinds that have some."""
    if kind == "none":
        return torch.zeros(scores_RC.shape[1], dtype=scores_RC.dtype)
    basis = scores_RC if kind == "batch" else meaningless_RC
    assert basis is not None
    return basis.softmax(1).mean(0).log()


def fitted(kind: str, scorer: Scorer, prompt: Prompt, scores_RC: torch.Tensor, inputs: Sequence[Row]) -> torch.Tensor:
    """The same; the scorer is asked about the meaningless inputs, if any."""
    return offsets(kind, scores_RC, scorer.score(prompt, inputs) if inputs else None)


def apply(scores_RC: torch.Tensor, offsets_C: torch.Tensor) -> torch.Tensor:
    """Calibrated log-probabilities over the choices [rows, choices]."""
    return (scores_RC.log_softmax(1) - offsets_C).log_softmax(1)
