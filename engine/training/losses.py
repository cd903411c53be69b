"""Losses on predictions, piece by piece, so that no more than a piece of a large vocabulary is held in float32.

Shapes: P predictions, V vocabulary or classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

PIECE = 256  # predictions that are compared at a time
Summed = Callable[..., torch.Tensor]
"""(logits [P, V], what they are compared with [P, ...], ...) -> the sum of the losses"""


@dataclass(frozen=True)
class Predictions:
    """A model's logits [P, V] and the right answers [P] of some items; `hidden` are its states behind every block, where asked
    for.
    """

    logits_PV: torch.Tensor
    targets_P: torch.Tensor
    items: Sequence[int]
    hidden: tuple[torch.Tensor, ...] = ()


def right_answers(found: Predictions) -> torch.Tensor:
    """The cross-entropy, summed."""
    return in_pieces(entropy, found.logits_PV, found.targets_P)


def entropy(logits_PV: torch.Tensor, targets_P: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits_PV.float(), targets_P, reduction="sum")


def in_pieces(loss: Summed, *tensors: torch.Tensor) -> torch.Tensor:
    """The sum over pieces of the tensors [P, ...]; a piece is computed again in the backward pass and not kept for it."""
    pieces = zip(*(torch.split(tensor, PIECE) for tensor in tensors), strict=True)
    total = [checkpoint(loss, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    return torch.stack(total).sum()
