"""How a model calls one of its blocks, noted once so that the block can be computed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map


@dataclass
class BlockCall:
    """How the model calls one block, apart from the hidden states [chunk, T, hidden]."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    keyword: str | None

    def __call__(self, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        if self.keyword is None:
            out = block(hidden, *self.args, **self.kwargs)
        else:
            out = block(*self.args, **{**self.kwargs, self.keyword: hidden})
        hidden_out: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return hidden_out

    def to(self, dtype: torch.dtype) -> BlockCall:
        """The same call with its floating-point tensors (positions, masks) in another number format."""

        def cast(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

        return BlockCall(tree_map(cast, self.args), tree_map(cast, self.kwargs), self.keyword)

    def sharing(self, other: BlockCall) -> BlockCall:
        """The same call, with the other's tensors where they are equal: masks and positions are kept once, not per chunk."""
        return BlockCall(shared(self.args, other.args), shared(self.kwargs, other.kwargs), self.keyword)


def shared(new: Any, old: Any) -> Any:
    """`new`, with the tensors of `old` in place of equal ones."""
    if isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor):
        same = new.shape == old.shape and new.dtype == old.dtype and (new is old or torch.equal(new, old))
        return old if same else new
    if type(new) is tuple and type(old) is tuple and len(new) == len(old):
        return tuple(shared(a, b) for a, b in zip(new, old, strict=True))
    if type(new) is dict and type(old) is dict:
        return {key: shared(value, old.get(key)) for key, value in new.items()}
    return new
