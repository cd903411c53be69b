"""Perplexity: exp of the mean next-token cross-entropy over consecutive windows of a text, each scored on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from engine.data.text import fingerprint
from engine.errors import Unavailable
from engine.evaluation.logits import window_logits
from engine.statistics import mean_interval
from engine.subject import Subject


@dataclass(frozen=True)
class Perplexity:
    """`low` and `high` bound it at 95%, from the spread over windows; n is the number of predicted tokens, `losses` are the
    means of the windows, of which `data` is a digest.
    """

    value: float
    low: float
    high: float
    n: int
    losses: tuple[float, ...] = ()
    data: str = ""


def perplexity(
    subject: Subject,
    token_ids: torch.Tensor,
    windows: int,
    length: int,
    start: int,
    tell: Callable[[int, int], None],
    spill: Path | None = None,
) -> Perplexity:
    """Of token_ids [tokens], windows start..start+windows-1 of `length` tokens; `spill` is for streamed models.

    Raises Unavailable for too short a text.
    """
    losses: list[float] = []
    chosen = chosen_windows(token_ids.to(subject.device), windows, length, start)
    answers = window_logits(subject, chosen, spill, lambda: tell(0, len(chosen)))
    for window, logits in zip(chosen, answers, strict=True):
        losses.append(float(cross_entropy(logits[:-1].float(), window[1:])))
        tell(len(losses), len(chosen))
    return of_losses(losses, [window.tolist() for window in chosen])


def chosen_windows(token_ids: torch.Tensor, windows: int, length: int, start: int) -> Sequence[torch.Tensor]:
    """Windows start..start+windows-1 of the text, fewer where it ends. Raises Unavailable where there is none."""
    available = len(token_ids) // length
    if available < start + 1:
        hint = "a longer text, a smaller evaluate.length or evaluate.start"
        message = f"the text has {len(token_ids)} tokens: no window {start} of {length} tokens"
        raise Unavailable(message, where="evaluate.perplexity", hint=hint)
    return torch.split(token_ids, length)[start : min(start + windows, available)]


def of_losses(losses: Sequence[float], windows: Sequence[Sequence[int]]) -> Perplexity:
    """Of these windows of equally many tokens, with their mean losses."""
    low, high = mean_interval(losses)
    mean = sum(losses) / len(losses)
    return Perplexity(
        _exp(mean),
        _exp(low),
        _exp(high),
        len(losses) * (len(windows[0]) - 1),
        tuple(losses),
        fingerprint(map(str, windows)),
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
