"""What was learned, in words: the vocabulary's nearest token to every virtual one, and these tokens as a text.

A text that is read so is a candidate like any other: how much of the training words can say shows in its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

from engine.prompts.soft import Soft
from engine.subject import Subject


@dataclass(frozen=True)
class Reading:
    """For every position a token and the cosine to it: the nearest one of all for embeddings (`text` says them together);
    for keys and values, which no vocabulary has, the token that the position began as, or else the position's number.
    """

    tokens: list[str]
    cosines: list[float]
    text: str


def read(soft: Soft, start: Soft, ids: list[int], subject: Subject) -> Reading:
    """`start` is what the training began with, made of the tokens `ids` (none where it was learned before)."""
    tokenizer: Any = subject.tokenizer
    if soft.form == "prefix":
        cosines = cosine_similarity(soft.weight_NW, start.weight_NW)
        began = [tokenizer.decode([i]) for i in ids] or [f"position {i}" for i in range(soft.tokens)]
        return Reading(began, _plain(cosines), "")
    nearest, cosines = nearest_tokens(soft.weight_NW, subject)
    text = tokenizer.decode(nearest, skip_special_tokens=True).strip()
    return Reading([tokenizer.decode([i]) for i in nearest], _plain(cosines), text)


@torch.no_grad()
def nearest_tokens(embeddings_NW: torch.Tensor, subject: Subject) -> tuple[list[int], torch.Tensor]:
    """The ids of the tokens with the largest cosines, and these [N]."""
    module: Any = subject.module
    tokenizer: Any = subject.tokenizer
    known_VW = module.get_input_embeddings().weight[: len(tokenizer)].float()
    cosines_NV = normalize(embeddings_NW.to(known_VW.device), dim=1) @ normalize(known_VW, dim=1).T
    best = cosines_NV.max(1)
    return best.indices.tolist(), best.values


def _plain(cosines: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in cosines.tolist()]
