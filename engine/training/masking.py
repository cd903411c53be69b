"""Weights that are being trained, and the zeros among them that must stay: float32 copies, masks, and who keeps the masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from engine.errors import EngineError

Mask = torch.Tensor | None
"""True where a weight stays; None where nothing was removed"""


class Keeper(Protocol):
    """Sees to it that a training keeps to a sparsity pattern; `step` counts from 0."""

    def before(self, step: int) -> None:
        """Puts the weights as the step's forward is to see them."""

    def gradients(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """After the backward pass: the weights as the optimizer is to see them, the gradients as it is to follow them."""

    def after(self, step: int) -> None:
        """After the optimizer. Raises EngineError when the pattern does not hold."""

    def settled(self, done: int) -> bool:
        """Whether after so many steps the weights have the pattern that they are to end with."""

    def shown(self) -> AbstractContextManager[object]:
        """The weights are as they would be kept inside."""

    def tensors(self) -> list[torch.Tensor]:
        """What a training that goes on needs to know beside weights and moments."""

    def restore(self, tensors: Sequence[torch.Tensor]) -> None:
        """Goes on from what `tensors` gave."""


@dataclass
class FixedMasks:
    """The zeros that there are at the start are the zeros at the end."""

    weights: list[nn.Parameter]
    masks: list[Mask]

    def before(self, step: int) -> None:
        """The weights are as they are."""

    def gradients(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        mask_gradients(self.weights, self.masks)

    def after(self, step: int) -> None:
        check_masks(self.weights, self.masks)

    def settled(self, done: int) -> bool:
        return True

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def tensors(self) -> list[torch.Tensor]:
        return []

    def restore(self, tensors: Sequence[torch.Tensor]) -> None:
        """The zeros of the start are there again before anything is restored."""


@contextmanager
def trainable(module: nn.Module) -> Iterator[tuple[list[nn.Parameter], list[Mask]]]:
    """The module's parameters in float32 and ready for gradients, each with its mask (None where it has no zeros).

    On leaving, what was learned is in the tensors that were there before, rounded to their number format.
    """
    parameters = list(module.parameters())
    stored = [p.data for p in parameters]
    masks = [mask_of(p.data) for p in parameters]
    try:
        for p in parameters:
            p.data = p.data.float()
            p.requires_grad_(True)
        yield parameters, masks
    finally:
        for p, tensor in zip(parameters, stored, strict=True):
            p.requires_grad_(False)
            p.grad = None
            if p.data is not tensor:
                tensor.copy_(p.data)
                p.data = tensor


def mask_of(weight: torch.Tensor) -> Mask:
    """True where a weight stays; None where nothing was removed."""
    keep = weight != 0
    return None if weight.ndim < 2 or bool(keep.all()) else keep


def mask_gradients(weights: Sequence[nn.Parameter], masks: Sequence[Mask]) -> None:
    """No gradient where nothing may grow."""
    for weight, mask in zip(weights, masks, strict=True):
        if mask is not None and weight.grad is not None:
            weight.grad.mul_(mask)


def check_masks(weights: Sequence[nn.Parameter], masks: Sequence[Mask]) -> None:
    """Raises EngineError when a removed weight is not zero."""
    for weight, mask in zip(weights, masks, strict=True):
        if mask is not None and bool(((weight.data != 0) > mask).any()):
            raise EngineError("training brought back weights that pruning had removed")
