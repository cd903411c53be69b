"""Norms of the residual stream when some of its dimensions leave: what they divide by is then a mean over fewer.

A norm computes x̂ ∘ (c + w) with x̂ = x / rms(x) over H dimensions; c is 0, or 1 where weights are stored as differences
from one. Without the removed dimensions rms is over K; the factor f = sqrt(mean of rms_K² / rms_H²), measured on calibration
data, keeps the outputs as large as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.calibration import Walk


@dataclass
class Norm:
    """One norm's weight [H], by its name in the model; `factor` is f, `offset` is c."""

    name: str
    weight: nn.Parameter
    factor: float
    offset: float

    def narrow(self) -> torch.Tensor:
        """The weight for the narrower stream, still [H]."""
        return (self.factor * (self.offset + self._dense) - self.offset).to(self.weight.dtype)

    def mask(self, stay: torch.Tensor) -> None:
        """Makes the full-size norm give what the narrow one will, when the removed dimensions of its input are zero."""
        size = len(self.weight)
        wide = self.factor * (len(stay) / size) ** 0.5 * (self.offset + self._dense)
        masked = torch.zeros_like(wide)
        masked[stay] = wide[stay]
        self.weight.data.copy_(masked - self.offset)

    def __post_init__(self) -> None:
        self._dense = self.weight.data.float().clone()


def norms_of(walk: Walk, axes: dict[str, list[int]], stay: torch.Tensor, samples: int) -> list[Norm]:
    """The norms on the stream, measured on the first calibration samples."""
    modules = norm_modules(walk.subject.module, axes)
    ratios: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            squares = args[0].float().square()
            energy = squares[..., stay].mean(-1) / squares.mean(-1).clamp_min(1e-30)
            ratios[name] = energy.mean()

        return hook

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    try:
        with walk.context():
            walk.subject.module(input_ids=walk.inputs[:samples], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [Norm(f"{name}.weight", module.get_parameter("weight"), float(ratios[name].sqrt()), offset_of(module))
            for name, module in modules.items() if name in ratios]  # fmt: skip


def norm_modules(model: nn.Module, axes: dict[str, list[int]]) -> dict[str, nn.Module]:
    """{name: module} of those whose weight is one number a hidden dimension."""
    return {name: module for name, module in model.named_modules()
            if f"{name}.weight" in axes and model.get_parameter(f"{name}.weight").ndim == 1}  # fmt: skip


def offset_of(module: nn.Module) -> float:
    """c of x̂ ∘ (c + w), found by two values of w."""
    weight: Any = module.weight
    old = weight.data.clone()
    x = torch.randn(1, 8, len(old), generator=torch.Generator().manual_seed(0)).to(old)
    with torch.no_grad():
        weight.data.fill_(0)
        at_zero = module(x).float()
        weight.data.fill_(1)
        slope = module(x).float() - at_zero
        weight.data.copy_(old)
    return round(float((at_zero / slope).median()))
