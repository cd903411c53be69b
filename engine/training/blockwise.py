"""Trains one block on the weights that stay, towards given outputs (min ||f(X) - f'(X')||², as in arXiv 2510.14444).

Shapes: B windows of a batch, T tokens, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from engine.errors import EngineError

Forward = Callable[[int], torch.Tensor]
"""a batch's number -> the block's output [B, T, H]"""


@dataclass(frozen=True)
class Schedule:
    """AdamW with warm-up and cosine; `steps` in all, `clip` bounds the gradient's norm."""

    steps: int
    learning_rate: float
    warmup: float
    clip: float

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        along = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * along))


@contextmanager
def trainable(block: nn.Module) -> Iterator[tuple[list[nn.Parameter], list[torch.Tensor | None]]]:
    """The block's parameters in float32 and ready for gradients, each with its mask (None where it has no zeros).

    On leaving, what was learned is in the tensors that were there before, rounded to their number format.
    """
    parameters = list(block.parameters())
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


def mask_of(weight: torch.Tensor) -> torch.Tensor | None:
    """True where a weight stays; None where nothing was removed."""
    keep = weight != 0
    return None if weight.ndim < 2 or bool(keep.all()) else keep


def relative_error(forward: Forward, targets: Sequence[torch.Tensor]) -> float:
    """||f - f'||² / ||f||² over all batches."""
    with torch.no_grad():
        difference = sum(float(distance(forward(i), target)) for i, target in enumerate(targets))
    return difference / max(1e-30, sum(float(target.float().square().sum()) for target in targets))


def distance(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """||f - f'||² in float32; the target may wait on another device."""
    return (output.float() - target.to(output.device).float()).square().sum()


def train(
    forward: Forward,
    targets: Sequence[torch.Tensor],
    parameters: list[nn.Parameter],
    masks: list[torch.Tensor | None],
    schedule: Schedule,
    generator: torch.Generator,
    tell: Callable[[], None],
) -> None:
    """Runs the schedule over batches in a new random order each epoch; `tell` is called after every step.

    Raises EngineError when the loss stops being finite, or when a removed weight came back.
    """
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0, betas=(0.9, 0.95), foreach=True)
    scale = sum(float(target.float().square().sum()) for target in targets) / len(targets)
    order: list[int] = []
    for step in range(schedule.steps):
        order = order or torch.randperm(len(targets), generator=generator).tolist()
        index = order.pop()
        with torch.enable_grad():
            loss = distance(forward(index), targets[index]) / scale
            torch.autograd.backward(loss)
        if not torch.isfinite(loss.detach()):
            raise EngineError(f"the loss is {loss.item()} at step {step + 1}", hint="lower the learning rate")
        for p, mask in zip(parameters, masks, strict=True):
            if mask is not None and p.grad is not None:
                p.grad.mul_(mask)
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tell()
    check_masks(parameters, masks)


def check_masks(parameters: list[nn.Parameter], masks: list[torch.Tensor | None]) -> None:
    """Raises EngineError when a removed weight is not zero."""
    for p, mask in zip(parameters, masks, strict=True):
        if mask is not None and bool((p.data[~mask] != 0).any()):
            raise EngineError("training brought back weights that pruning had removed")
