"""Masks that move while weights are trained: gradual magnitude, RigL, the threshold rule, and straight-through top-k.

Everything is decided per matrix, seen as [O, I], by the projection of pruning/masks.py; T is the step behind which no mask
moves any more.

Shapes: O out, I in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from engine.errors import EngineError
from engine.matrices import Matrix
from engine.pruning.masks import Pattern, drop_lowest
from engine.training.kept import MOMENTS
from engine.training.masking import Mask, check_masks, mask_gradients


@dataclass(frozen=True)
class Part:
    """A matrix inside a weight of the training, by the weight's number."""

    name: str
    block: int
    number: int
    shape: tuple[int, int]
    stride: tuple[int, ...]
    offset: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The matrix [O, I] in the weight, or in a tensor of the weight's layout: its mask, its gradient, its moments."""
        return tensor.as_strided(self.shape, self.stride, tensor.storage_offset() + self.offset)


def parts_of(matrices: Sequence[Matrix], weights: Sequence[nn.Parameter]) -> list[Part]:
    """Where the matrices lie in the weights."""
    found = []
    for matrix in matrices:
        at = matrix.weight.data_ptr()
        for number, weight in enumerate(weights):
            offset = (at - weight.data_ptr()) // weight.element_size()
            if 0 <= offset < weight.numel():
                found.append(Part(matrix.name, matrix.block, number, matrix.shape, matrix.weight.stride(), offset))
                break
    return found


@dataclass(frozen=True)
class Look:
    """A matrix at the moment when its mask may move; `along` of the way to the last move, in (0, 1]."""

    name: str
    weight_OI: torch.Tensor
    gradient_OI: torch.Tensor
    mask_OI: torch.Tensor
    along: float


Rule = Callable[[Look], torch.Tensor]
"""the new mask [O, I]"""


def gradual(pattern: Pattern, begun: dict[str, float]) -> Rule:
    """s_t = s_f + (s_0 - s_f) (1 - t/T)³ (Zhu & Gupta 2017, arXiv 1710.01878, eq. 1), `begun` being the s_0; the smallest
    weights go. N:M patterns keep ever fewer of M.
    """

    def rule(look: Look) -> torch.Tensor:
        first = begun[look.name]
        sparsity = pattern.sparsity + (first - pattern.sparsity) * (1 - look.along) ** 3
        return at(pattern, max(first, sparsity)).keep(look.weight_OI.abs() * look.mask_OI)

    return rule


def at(pattern: Pattern, sparsity: float) -> Pattern:
    """The pattern on its way: at this sparsity, of M neighbours at least as many as that leaves."""
    if pattern.n_of_m is None:
        return replace(pattern, sparsity=sparsity)
    n, m = pattern.n_of_m
    return replace(pattern, n_of_m=(max(n, math.ceil(m * (1 - sparsity) - 1e-9)), m))


def rigl(fraction: float) -> Rule:
    """Of the weights that are there, the smallest f_t go and as many of those that are not come, where the loss's gradient is
    largest, beginning at zero; f_t = fraction/2 (1 + cos(pi t/T)) (Evci et al. 2020, arXiv 1911.11134, algorithm 1).
    """

    def rule(look: Look) -> torch.Tensor:
        active = int(look.mask_OI.sum())
        count = min(round(fraction / 2 * (1 + math.cos(math.pi * look.along)) * active), look.mask_OI.numel() - active)
        shape = look.mask_OI.shape
        sizes = look.weight_OI.abs().masked_fill(~look.mask_OI, -1).reshape(1, -1)
        stay = drop_lowest(sizes, sizes.numel() - active + count).view(shape)
        urges = look.gradient_OI.abs().masked_fill(stay, -1).reshape(1, -1)
        return stay | drop_lowest(urges, urges.numel() - count).view(shape)

    return rule


def threshold(limit: float) -> Rule:
    """What is less important than the limit goes: I_i = |w_i| / sum |w_j| over the matrix; it does not come back."""

    def rule(look: Look) -> torch.Tensor:
        sizes_OI = look.weight_OI.abs()
        keep_OI = (sizes_OI >= limit * sizes_OI.sum()) & look.mask_OI
        if not bool(keep_OI.any()):
            raise EngineError(f"threshold {limit:g} removes every weight", where=look.name, hint="a smaller threshold")
        return keep_OI

    return rule


@dataclass
class Moving:
    """Keeps masks that a rule moves every so many steps until `until`."""

    weights: list[nn.Parameter]
    masks: list[Mask]
    parts: list[Part]
    rule: Rule
    every: int
    until: int

    def before(self, step: int) -> None:
        """The weights are as they are."""

    def gradients(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        if step < self.until and ((step + 1) % self.every == 0 or step + 1 == self.until):
            for part in self.parts:
                self._move(part, (step + 1) / self.until)
            apply(self.weights, self.masks, optimizer)
        mask_gradients(self.weights, self.masks)

    def after(self, step: int) -> None:
        check_masks(self.weights, self.masks)

    def settled(self, done: int) -> bool:
        return done >= self.until

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def tensors(self) -> list[torch.Tensor]:
        return [mask for mask in self.masks if mask is not None]

    def restore(self, tensors: Sequence[torch.Tensor]) -> None:
        for mask, found in zip(self.tensors(), tensors, strict=True):
            mask.copy_(found)

    def _move(self, part: Part, along: float) -> None:
        weight, mask = self.weights[part.number], self.masks[part.number]
        assert mask is not None
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        look = Look(part.name, part.view(weight.data), part.view(gradient), part.view(mask), along)
        part.view(mask).copy_(self.rule(look))


@dataclass
class StraightThrough:
    """Until `until` all weights are trained and the model sees the largest alone, its gradients going to all (Bengio et al.
    2013, arXiv 1308.3432; for N:M Zhou et al. 2021, arXiv 2102.04010, eq. 7); from then on those that it sees then.
    """

    weights: list[nn.Parameter]
    masks: list[Mask]
    parts: list[Part]
    pattern: Pattern
    until: int
    _all: dict[int, torch.Tensor] = field(default_factory=dict)

    def before(self, step: int) -> None:
        if step < self.until:
            self._project()

    def gradients(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        if step + 1 < self.until:
            self._put_back()
        elif step + 1 == self.until:
            self._all = {}
            apply(self.weights, self.masks, optimizer)
        mask_gradients(self.weights, self._holding(step))

    def after(self, step: int) -> None:
        check_masks(self.weights, self._holding(step))

    def settled(self, done: int) -> bool:
        return done >= self.until

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Of weights that are masked already the projection is themselves."""
        self._project()
        try:
            yield
        finally:
            self._put_back()

    def tensors(self) -> list[torch.Tensor]:
        return [mask for mask in self.masks if mask is not None]

    def restore(self, tensors: Sequence[torch.Tensor]) -> None:
        for mask, found in zip(self.tensors(), tensors, strict=True):
            mask.copy_(found)

    def _holding(self, step: int) -> list[Mask]:
        """The masks that hold: before the last move those of weights without parts."""
        moving = {part.number for part in self.parts} if step + 1 < self.until else set()
        return [None if number in moving else mask for number, mask in enumerate(self.masks)]

    def _project(self) -> None:
        self._all = {part.number: self.weights[part.number].data.clone() for part in self.parts}
        for part in self.parts:
            mask = self.masks[part.number]
            assert mask is not None
            weight_OI = part.view(self.weights[part.number].data)
            part.view(mask).copy_(self.pattern.keep(weight_OI.abs()))
            weight_OI.mul_(part.view(mask))

    def _put_back(self) -> None:
        for number, everything in self._all.items():
            self.weights[number].data.copy_(everything)
        self._all = {}


def apply(weights: Sequence[nn.Parameter], masks: Sequence[Mask], optimizer: torch.optim.Optimizer) -> None:
    """Zeroes what the masks leave out, and the moments that would move it."""
    for weight, mask in zip(weights, masks, strict=True):
        if mask is not None:
            weight.data.mul_(mask)
            for name in MOMENTS:
                if name in optimizer.state.get(weight, {}):
                    optimizer.state[weight][name].mul_(mask)
