"""How much a text surprises the model: -log P of its tokens given all before them, virtual tokens first, in nats.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from engine.prompts.forward import begin, behind, first_token
from engine.prompts.soft import Soft
from engine.subject import Subject

BATCH = 16  # texts whose predictions are held together


def opening(subject: Subject, ids: Sequence[int]) -> list[int]:
    """The token that a text's first one is predicted from: none when the text begins with a special one."""
    tokenizer: Any = subject.tokenizer
    if ids and ids[0] in tokenizer.all_special_ids:
        return []
    return [first_token(tokenizer)]


@torch.inference_mode()
def surprisals(subject: Subject, texts: Sequence[Sequence[int]], soft: Soft | None = None) -> torch.Tensor:
    """Surprisals [B, T] of equally long texts; a special first token surprises nobody."""
    before, begun = opening(subject, texts[0]), begin(subject, (), soft)
    out = []
    for first in range(0, len(texts), BATCH):
        ids_BT = torch.tensor([[*before, *ids] for ids in texts[first : first + BATCH]], device=subject.device)
        log_probs = subject.module(ids_BT, **behind(begun, len(ids_BT))).logits[:, :-1].float().log_softmax(-1)
        out.append(-log_probs.gather(2, ids_BT[:, 1:, None])[..., 0])
    found = torch.cat(out)
    return found if before else torch.nn.functional.pad(found, (1, 0))


def of_pieces(subject: Subject, pieces: Sequence[str], soft: Soft | None = None) -> list[tuple[float, int]]:
    """(surprisal, tokens) of consecutive pieces of a text; a token across two of them belongs to the later one."""
    tokenizer: Any = subject.tokenizer
    text = "".join(pieces)
    ids: list[int] = tokenizer(text).input_ids
    ends = list(itertools.accumulate(len(piece) for piece in pieces))
    agreeing = (_agreeing(tokenizer(text[:end]).input_ids, ids) for end in ends[:-1])
    starts = [0, *itertools.accumulate(agreeing, max), len(ids)]
    values = surprisals(subject, [ids], soft)[0]
    return [(float(values[a:b].sum()), b - a) for a, b in itertools.pairwise(starts)]


def _agreeing(some: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens a beginning of the text shares with the whole."""
    return next((i for i, (a, b) in enumerate(zip(some, whole, strict=False)) if a != b), min(len(some), len(whole)))
