"""Scaling a matrix's inputs without changing what the block computes: what makes the input is divided, the matrix multiplied.

No architecture is named. What could make an input (a norm, or another matrix in front of an elementwise product) is tried: its
output is scaled, the matrices' columns the other way round, and where the block still answers the same, it does make it.

Shapes: O out, I in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from engine.blockcall import BlockCall
from engine.calibration import Walk
from engine.matrices import Matrix

FEW = 16  # tokens that a block is tried on
SAME = 1e-2  # of what scaling the matrices alone does to the block's output, as much may be left by rounding


@dataclass(frozen=True)
class Maker:
    """Parameters whose first dimension is the input's; `shifted` ones count as one more than they hold (Gemma's norms).

    The output of a `matrix` (not of a norm) may be codes already: it is scaled by powers of two only, which these survive.
    """

    parameters: tuple[nn.Parameter, ...]
    shifted: bool

    @property
    def matrix(self) -> bool:
        return self.parameters[0].ndim > 1

    def divide(self, scale_I: torch.Tensor) -> None:
        """Makes the output so many times smaller."""
        for parameter in self.parameters:
            by = scale_I.to(parameter.dtype).reshape(-1, *[1] * (parameter.ndim - 1))
            parameter.data.copy_((parameter.data + 1) / by - 1 if self.shifted else parameter.data / by)


@dataclass(frozen=True)
class Probe:
    """A few tokens, to see what a block answers."""

    walk: Walk
    hidden: torch.Tensor
    calls: list[BlockCall]

    @classmethod
    def of(cls, walk: Walk) -> Probe:
        few = walk.inputs[:1, :FEW] if walk.subject.is_language_model else walk.inputs[:FEW]
        small = Walk(walk.subject, few, 1 if walk.subject.is_language_model else len(few), torch.float32)
        with small.context():
            hidden, calls = small.enter()
        return cls(walk, hidden[0], [call[0] for call in calls])

    def answer(self, block: int) -> torch.Tensor:
        with torch.no_grad():
            module = self.walk.block(block)
            return self.calls[block](module, self.hidden.to(self.walk.subject.device)).float()

    def maker(self, block: int, matrices: list[Matrix]) -> Maker | None:
        """What makes the input of these matrices; None where nothing can be scaled without anybody else noticing."""
        width = matrices[0].shape[1]
        scale_I = torch.ones(width, device=matrices[0].weight.device)
        scale_I[::2] = 2.0
        before, weights = self.answer(block), [matrix.weight.clone() for matrix in matrices]
        for matrix in matrices:
            matrix.weight.mul_(scale_I)
        alone = float((self.answer(block) - before).norm())
        found = None
        for maker in candidates(self.walk.block(block), matrices):
            kept = [parameter.data.clone() for parameter in maker.parameters]
            maker.divide(scale_I)
            same = float((self.answer(block) - before).norm()) <= SAME * alone
            for parameter, data in zip(maker.parameters, kept, strict=True):
                parameter.data.copy_(data)
            if same:
                found = maker
                break
        for matrix, weight in zip(matrices, weights, strict=True):
            matrix.weight.copy_(weight)
        return found


def candidates(block: nn.Module, matrices: list[Matrix]) -> Iterator[Maker]:
    """Modules whose parameters all have as many rows as the input has columns, norms first."""
    width = matrices[0].shape[1]
    own = {matrix.weight.data_ptr() for matrix in matrices}
    found = []
    for module in block.modules():
        parameters = tuple(module.parameters(recurse=False))
        if parameters and all(len(p) == width and p.ndim <= 2 and p.data_ptr() not in own for p in parameters):
            found.append(parameters)
    for parameters in sorted(found, key=lambda parameters: max(p.ndim for p in parameters)):
        yield Maker(parameters, shifted=False)
        if parameters[0].ndim == 1:
            yield Maker(parameters, shifted=True)
