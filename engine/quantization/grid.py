"""Integer grids: groups of neighbouring weights share a scale and the code that means zero.

A weight is (code - zero) * scale, with 0 <= code < 2^bits. Zero is a code like any other, so what pruning removed is exactly
zero on every grid. Scales are rounded up to eight significant bits: bfloat16, and float16 within its range, hold them as they
are, so every file format gets the same numbers.

Shapes: O out, I in, G groups of a row, K columns of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.errors import UsageError

GROUPS = (128, 64, 32)
SCALE_BITS = 16
TINY = 2.0**-100  # a scale is no smaller: far below any weight that matters, far above where rounding ends


class Indivisible(UsageError):
    """A matrix whose width is not a multiple of `size`."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None, size: int = 1) -> None:
        super().__init__(message, where=where, hint=hint)
        self.size = size


@dataclass(frozen=True)
class Format:
    """`bits` of a code (0: different in the matrices), `group` columns that share a scale (0: all of a row), whether the code
    of zero is in the middle, bits to which the layer's `inputs` are rounded when it runs (0: they are not).
    """

    bits: int
    group: int
    symmetric: bool
    inputs: int = 0

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def width(self, columns: int) -> int:
        """Columns that share a scale, in a matrix so wide."""
        return self.group or columns

    def bits_a_weight(self, columns: int) -> float:
        """With scales and codes of zero, in a matrix so wide."""
        return self.bits + (SCALE_BITS + (0 if self.symmetric else self.bits)) / self.width(columns)

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raises Indivisible when a matrix of this shape has no whole number of groups."""
        if shape[1] % self.width(shape[1]):
            fitting = [str(group) for group in GROUPS if shape[1] % group == 0]
            hint = f"group = {' or '.join([*fitting, '0'])} (0: a scale for every row)"
            message = f"groups of {self.group} do not fit: {self.group} does not divide the width {shape[1]}"
            raise Indivisible(message, where=name, hint=hint, size=self.width(shape[1]))


@dataclass(frozen=True)
class Grid:
    """Scales and codes of zero [O, G] of the groups of a matrix."""

    format: Format
    scale_OG: torch.Tensor
    zero_OG: torch.Tensor

    def codes(self, weight_OI: torch.Tensor) -> torch.Tensor:
        """The nearest codes [O, I]."""
        grouped_OGK = weight_OI.reshape(*self.scale_OG.shape, -1)
        nearest_OGK = torch.round(grouped_OGK / self.scale_OG[..., None]) + self.zero_OG[..., None]
        return nearest_OGK.clamp_(0, self.format.top).reshape(weight_OI.shape).to(torch.uint8)

    def values(self, codes_OI: torch.Tensor) -> torch.Tensor:
        """What codes mean [O, I], in float32."""
        grouped_OGK = codes_OI.reshape(*self.scale_OG.shape, -1).float()
        return ((grouped_OGK - self.zero_OG[..., None]) * self.scale_OG[..., None]).reshape(codes_OI.shape)


@dataclass(frozen=True)
class Codes:
    """A quantized matrix: its grid and the codes [O, I] of its weights."""

    grid: Grid
    codes_OI: torch.Tensor

    @classmethod
    def nearest(cls, weight_OI: torch.Tensor, grid: Grid) -> Codes:
        return cls(grid, grid.codes(weight_OI))

    def values(self) -> torch.Tensor:
        """The weights [O, I], in float32."""
        return self.grid.values(self.codes_OI)


def span(weight_OI: torch.Tensor, form: Format, share: float = 1.0) -> Grid:
    """The grid from the smallest to the largest weight of every group, or over this share of that range. Zero is within."""
    rows, columns = weight_OI.shape
    grouped_OGK = weight_OI.reshape(rows, -1, form.width(columns))
    low_OG, high_OG = (share * edge.clamp(*sign) for edge, sign in zip(
        grouped_OGK.aminmax(dim=2), ((None, 0.0), (0.0, None)), strict=True))  # fmt: skip
    if form.symmetric:
        scale_OG = rounded_up(2 * torch.maximum(-low_OG, high_OG) / form.top)
        return Grid(form, scale_OG, torch.full_like(scale_OG, 2 ** (form.bits - 1)))
    scale_OG = rounded_up((high_OG - low_OG) / form.top)
    return Grid(form, scale_OG, torch.round(-low_OG / scale_OG).clamp_(0, form.top))


def fitted(weight_OI: torch.Tensor, form: Format, importance_I: torch.Tensor, shares: tuple[float, ...]) -> Grid:
    """For every group the grid over that share of its range which leaves the least squared error, columns weighted by their
    importance.
    """
    best = span(weight_OI, form)
    least_OG = _error(weight_OI, best, importance_I)
    for share in shares:
        grid = span(weight_OI, form, share)
        error_OG = _error(weight_OI, grid, importance_I)
        better_OG = error_OG < least_OG
        least_OG = torch.where(better_OG, error_OG, least_OG)
        best = Grid(form, torch.where(better_OG, grid.scale_OG, best.scale_OG),
                    torch.where(better_OG, grid.zero_OG, best.zero_OG))  # fmt: skip
    return best


def _error(weight_OI: torch.Tensor, grid: Grid, importance_I: torch.Tensor) -> torch.Tensor:
    """Squared error [O, G] of every group."""
    squared_OI = (weight_OI - grid.values(grid.codes(weight_OI))).square_() * importance_I
    return squared_OI.reshape(*grid.scale_OG.shape, -1).sum(2)


def rounded_up(scale: torch.Tensor) -> torch.Tensor:
    """Positive float32 numbers, up to the next that bfloat16 has; 1 for zero."""
    whole = torch.where(scale == 0, 1.0, scale.clamp_min(TINY)).contiguous()
    return ((whole.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)
