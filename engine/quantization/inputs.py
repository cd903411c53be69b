"""Inputs of quantized layers, rounded to eight bits while the model runs ("dynamic"): every token has a scale of its own.

As compressed-tensors has it (int8, strategy "token", symmetric): the scale is the token's largest magnitude / 127.5, codes are
-128 to 127. Gradients pass as if nothing were rounded (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from engine.errors import UsageError
from engine.matrices import Matrix

BITS = 8
HALF = 2.0 ** (BITS - 1)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Inputs [..., I] as their codes mean them, in the number format that they have."""
    with torch.no_grad():
        scale = x.abs().amax(-1, keepdim=True) / (HALF - 0.5)
        scale = torch.where(scale == 0, 1.0, scale)
        near = torch.round(x / scale).clamp_(-HALF, HALF - 1) * scale
    return x + (near - x).detach() if x.requires_grad else near


def hook(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before a layer's forward."""
    return (rounded(args[0]), *args[1:])


def rounds(layer: nn.Module) -> bool:
    """Whether the layer's inputs are rounded."""
    return any(found is hook for found in layer._forward_pre_hooks.values())


def install(module: nn.Module, names: Iterable[str]) -> None:
    """Has the layers that own these weights round their inputs from now on; once, however often that is said."""
    for name in names:
        layer = owner(module, name)
        if not rounds(layer):
            layer.register_forward_pre_hook(hook)


def owner(module: nn.Module, name: str) -> nn.Module:
    """The layer that has the weight of this name."""
    return module.get_submodule(name.rpartition(".")[0])


def check(module: nn.Module, matrices: Sequence[Matrix]) -> None:
    """Raises UsageError for a matrix that is no plain Linear layer's: nothing is called with its inputs alone."""
    for matrix in matrices:
        if matrix.name.endswith("]") or type(owner(module, matrix.name)) is not nn.Linear:
            message = "inputs are rounded in front of Linear layers only, and this matrix is none"
            raise UsageError(message, where=matrix.name, hint='activations = "none" in the quantize step')
