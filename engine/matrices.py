"""What is compressed: matrices, found by watching the products that a block computes, and the statistics of their inputs.

A *matrix* is one weight seen as [out, in]: Linear, Conv1D (stored transposed) and the experts' slices of 3-D parameters
are the same thing here, and no architecture is named.

Shapes: T tokens (all samples together), I in, O out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Made = TypeVar("Made")
SAMPLE = 512  # input rows kept per matrix to measure its output error


@dataclass
class Matrix:
    """One weight to compress. `weight` is a [O, I] view of the parameter: writing to it changes the model.

    `group` is shared by matrices that have the same input (q/k/v, gate/up).
    """

    name: str
    block: int
    weight: torch.Tensor
    group: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]


@dataclass
class Statistics:
    """What is known of a matrix's inputs X [T, I]: mean squares [I], the Gram matrix XᵀX/T [I, I] when asked for,
    and up to 512 rows of X themselves. What a solver derives from the Gram matrix is kept with it (`once`), so that several
    matrices, row chunks and sparsities share one factorization.
    """

    tokens: int
    mean_squares: torch.Tensor
    gram: torch.Tensor | None
    rows: torch.Tensor
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Any, make: Callable[[torch.Tensor], Made]) -> Made:
        """`make(gram)`, computed at the first call with this key."""
        assert self.gram is not None
        if key not in self._made:
            self._made[key] = make(self.gram)
        made: Made = self._made[key]
        return made

    def scaled(self, scale_I: torch.Tensor) -> Statistics:
        """Of the inputs X scale."""
        gram = None if self.gram is None else self.gram * (scale_I[:, None] * scale_I)
        return Statistics(self.tokens, self.mean_squares * scale_I.square(), gram, self.rows * scale_I)

    @classmethod
    def of(cls, x: torch.Tensor, want_gram: bool) -> Statistics:
        """From X [..., I] of any dtype; everything in float32."""
        x_TI = x.detach().reshape(-1, x.shape[-1])
        tokens = len(x_TI)
        step = max(1, -(-tokens // SAMPLE))
        rows = x_TI[::step].float()
        if want_gram:
            gram = gram_matrix(x_TI.float()) / tokens
            return cls(tokens, gram.diagonal().clone(), gram, rows)
        return cls(tokens, sum_of_squares(x_TI) / tokens, None, rows)

    @classmethod
    def none(cls, width: int, want_gram: bool, device: torch.device) -> Statistics:
        """For a matrix that no token reached (a never-routed expert): unit norms, so that magnitude decides."""
        gram = torch.eye(width, device=device) if want_gram else None
        return cls(0, torch.ones(width, device=device), gram, torch.zeros(0, width, device=device))

    def merged(self, other: Statistics) -> Statistics:
        """The statistics of both inputs together."""
        tokens = self.tokens + other.tokens
        a, b = self.tokens / tokens, other.tokens / tokens
        gram = None if self.gram is None or other.gram is None else self.gram * a + other.gram * b
        rows = torch.cat([self.rows, other.rows])
        rows = rows[:: max(1, -(-len(rows) // SAMPLE))]
        return Statistics(tokens, self.mean_squares * a + other.mean_squares * b, gram, rows)


def sum_of_squares(x_TI: torch.Tensor) -> torch.Tensor:
    """Per column [I] in float32, a cache-sized piece at a time."""
    total_I = torch.zeros(x_TI.shape[1], device=x_TI.device)
    for piece in torch.split(x_TI, 1024):
        total_I += piece.float().square().sum(0)
    return total_I


def gram_matrix(x_TI: torch.Tensor) -> torch.Tensor:
    """XᵀX [I, I]: the upper blocks are computed, the lower ones are their mirror image."""
    width = x_TI.shape[1]
    gram_II = x_TI.new_empty(width, width)
    size = max(128, -(-width // 4))
    for start in range(0, width, size):
        end = min(start + size, width)
        torch.mm(x_TI[:, start:end].T, x_TI[:, start:], out=gram_II[start:end, start:])
        gram_II[end:, start:end] = gram_II[start:end, end:].T
    return gram_II


def output_error(before_OI: torch.Tensor, after_OI: torch.Tensor, rows_TI: torch.Tensor) -> float | None:
    """||X(W - W')ᵀ||² / ||XWᵀ||² on the kept calibration rows; None where there are none."""
    if not len(rows_TI):
        return None
    reference = torch.linalg.vector_norm(rows_TI @ before_OI.T).square()
    difference = torch.linalg.vector_norm(rows_TI @ (before_OI - after_OI).T).square()
    return float(difference / reference.clamp_min(1e-30))


class Products(TorchFunctionMode):
    """Watches products of an input with a weight: calls `seen(x [..., I], w [O, I] view)` before each is computed."""

    def __init__(self, seen: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.linear:
            self._seen(args[0], args[1] if len(args) > 1 else kwargs["weight"])
        elif func is torch.addmm:
            self._seen(args[1], args[2].t())
        elif func in (torch.mm, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__) and args[1].ndim == 2:
            self._seen(args[0], args[1].t())
        elif func in (torch.bmm, torch.Tensor.bmm):
            for x, w in zip(args[0], args[1], strict=True):
                self._seen(x, w.t())
        return func(*args, **kwargs)


def find_matrices(block: nn.Module, index: int, prefix: str, watched: list[tuple[int, torch.Tensor]]) -> list[Matrix]:
    """The block's matrices from its watched products [(id of input, weight view [O, I])].

    A 3-D parameter of which one slice was seen counts with all its slices (the experts). A matrix with one row an expert, in a
    block with experts, is their router and is left alone.
    """
    owners = {p.data_ptr() + i * p[0].numel() * p.element_size(): (name, p, i)
              for name, p in block.named_parameters() if p.ndim in (2, 3)
              for i in (range(len(p)) if p.ndim == 3 else [0])}  # fmt: skip
    experts = {len(p) for p in block.parameters() if p.ndim == 3}
    found: dict[str, Matrix] = {}
    groups: dict[int, int] = {}
    for x, w in watched:
        owner = owners.get(w.data_ptr())
        if owner is None or (owner[1].ndim == 2 and w.shape[0] in experts):
            continue
        name, parameter, _ = owner
        for i in range(len(parameter)) if parameter.ndim == 3 else [None]:
            full = f"{prefix}.{name}".lstrip(".") + ("" if i is None else f"[{i}]")
            slice_ = parameter.data if i is None else parameter.data[i]
            view = slice_ if slice_.stride() == w.stride() and slice_.shape == w.shape else slice_.t()
            group = groups.setdefault(x, len(groups)) if i is None else 10_000 + len(found)
            found.setdefault(full, Matrix(full, index, view, group))
    return list(found.values())
