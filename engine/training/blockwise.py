"""Trains one block on the weights that stay, towards given outputs (min ||f(X) - f'(X')||², as in arXiv 2510.14444).

Shapes: B windows of a batch, T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from engine.errors import EngineError
from engine.training.masking import Mask, check_masks, mask_gradients
from engine.training.schedule import Schedule

Forward = Callable[[int], torch.Tensor]
"""a batch's number -> the block's output [B, T, H]"""


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
    masks: list[Mask],
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
        mask_gradients(parameters, masks)
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tell()
    check_masks(parameters, masks)
