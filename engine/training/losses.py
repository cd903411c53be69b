"""Losses on predictions, piece by piece, so that no more than a piece of a large vocabulary is held in float32.

Shapes: P predictions, V vocabulary or classes, K most likely tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from engine.evaluation.divergence import with_rest
from engine.training.options import DistillOptions

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


def distilled(
    logits_PV: torch.Tensor, targets_P: torch.Tensor, log_PK: torch.Tensor, ids_PK: torch.Tensor | None = None, *,
    how: DistillOptions, vocabulary: int
) -> torch.Tensor:  # fmt: skip
    """a CE + b T² D(teacher, student), summed (Hinton et al. 2015, arXiv 1503.02531); the teacher's log-probabilities
    [P, V], or of its likely tokens [P, K] and the rest as one, are at temperature T already.
    """
    total = how.answers * entropy(logits_PV, targets_P) if how.answers else logits_PV.new_zeros((), dtype=torch.float32)
    if not how.imitation:
        return total
    soft_PV = logits_PV[:, :vocabulary].float() / how.temperature
    return total + how.imitation * how.temperature**2 * apart(soft_PV, log_PK, ids_PK, how.divergence)


def apart(logits_PV: torch.Tensor, log_PK: torch.Tensor, ids_PK: torch.Tensor | None, divergence: str) -> torch.Tensor:
    """KL(teacher || student), KL(student || teacher) (Gu et al. 2023, arXiv 2306.08543) or their Jensen-Shannon divergence
    (Agarwal et al. 2023, arXiv 2306.13649, at 1/2), summed over places.
    """
    q, p = torch.log_softmax(logits_PV, dim=-1), log_PK.float()
    if ids_PK is not None:
        q, p = with_rest(q.gather(1, ids_PK.long())), with_rest(p)
    if divergence == "forward":
        return relative_entropy(p, q)
    if divergence == "reverse":
        return relative_entropy(q, p)
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (relative_entropy(p, middle) + relative_entropy(q, middle))


def relative_entropy(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of log-probabilities, summed over places; what p never says counts nothing."""
    return entropy_terms(p, q).sum()


def entropy_terms(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """What every token adds to KL(p || q)."""
    return p.exp() * (p - q).masked_fill(p == -torch.inf, 0.0)


def hidden_distance(students: Sequence[torch.Tensor], teachers: Sequence[torch.Tensor]) -> torch.Tensor:
    """sum over blocks of ||h_s - h_t||² / ||h_t||², each over all places of the items."""
    pairs = zip(students, teachers, strict=True)
    return torch.stack([(s.float() - t.float()).square().sum() / t.float().square().sum() for s, t in pairs]).sum()
