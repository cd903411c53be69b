"""Low-rank recovery: every matrix of the blocks is M * (W + B A) while B and A are trained, so that merging keeps the zeros.

B A as in Hu et al. 2021 (arXiv 2106.09685), inside the mask M of what pruning left.

Shapes: O out, I in as the weight is stored, E experts where there are any, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from engine.pruning.criterion import generator
from engine.subject import Subject
from engine.training import course
from engine.training.learning import Learning
from engine.training.losses import right_answers
from engine.training.masking import FixedMasks, Mask, check_masks, mask_of, trainable
from engine.training.material import material
from engine.training.options import RecoverOptions
from engine.workspace import Workspace


class LowRank(nn.Module):
    """M * (W + B A) of a weight W [..., O, I]; B [..., O, R] begins at zero, A [..., R, I] random."""

    def __init__(self, weight: torch.Tensor, mask: Mask, rank: int, random: torch.Generator) -> None:
        super().__init__()
        *experts, rows, width = weight.shape
        begun = torch.randn(*experts, rank, width, generator=random) / width**0.5
        self.a = nn.Parameter(begun.to(weight.device))
        self.b = nn.Parameter(torch.zeros(*experts, rows, rank, device=weight.device))
        self.mask = mask

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        summed = weight + self.b @ self.a
        return summed if self.mask is None else summed * self.mask


@dataclass(frozen=True)
class Place:
    """A module and which of its parameters is a matrix."""

    module: nn.Module
    name: str

    @property
    def parameter(self) -> nn.Parameter:
        return self.module.get_parameter(self.name)


def run(workspace: Workspace, options: RecoverOptions) -> dict[str, Any]:
    """Trains the low-rank parts on right answers and merges them; returns the step's summary."""
    subject = workspace.subject
    learning = Learning.of(subject, material(workspace, options), right_answers, options)
    with trainable(subject.module), adapted(subject, options.rank, workspace.profile.seed) as weights:
        standing = course.trained(workspace, options, learning, weights, FixedMasks(weights, [None] * len(weights)))
    course.keep(workspace)
    numbers = sum(weight.numel() for weight in weights)
    return {"method": options.method, "trained": numbers, **course.summary(workspace, options, standing)}


@contextmanager
def adapted(subject: Subject, rank: int, seed: int) -> Iterator[list[nn.Parameter]]:
    """The trained numbers, in the model inside; on leaving, what they came to is in the model's own weights."""
    places = matrices(subject)
    subject.module.requires_grad_(False)
    masks = [mask_of(place.parameter.data) for place in places]
    made, orders = [], {place.module: list(place.module._parameters) for place in places}
    for number, (place, mask) in enumerate(zip(places, masks, strict=True)):
        weight = place.parameter.data
        made.append(LowRank(weight, mask, min(rank, *weight.shape[-2:]), generator(seed, f"low rank {number}")))
        parametrize.register_parametrization(place.module, place.name, made[-1])
    try:
        yield [weight for one in made for weight in (one.a, one.b)]
    finally:
        for place in places:
            with torch.no_grad():
                merged = getattr(place.module, place.name).clone()
            parametrize.remove_parametrizations(place.module, place.name, leave_parametrized=False)
            place.parameter.data.copy_(merged)
        for module, names in orders.items():  # states of trainings and hashes go by it
            own = module._parameters
            own.update({name: own.pop(name) for name in names})
        check_masks([place.parameter for place in places], masks)


def matrices(subject: Subject) -> list[Place]:
    """Every parameter of the blocks with rows and columns, once."""
    found: dict[int, Place] = {}
    for block in subject.blocks():
        for module in block.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.ndim >= 2:
                    found.setdefault(id(parameter), Place(module, name))
    return list(found.values())
