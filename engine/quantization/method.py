"""What a method of quantization is: from a weight, its input's statistics and a format to codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engine.matrices import Statistics
from engine.quantization.grid import Codes, Format, Grid

WORK = 2**27
"""weights that are worked on at a time; larger matrices go through in chunks of rows"""
SHARES = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""of a group's range that are tried for its grid"""


@dataclass(frozen=True)
class Settings:
    """`damping` as a share of the Gram matrix's mean diagonal, `act_order` and `clip` as in the step's options."""

    damping: float = 0.01
    act_order: bool = True
    clip: bool = True


Quantize = Callable[[torch.Tensor, Statistics, Format, Settings], Codes]
Scale = Callable[[Sequence[torch.Tensor], Statistics, Sequence[Format]], torch.Tensor]


@dataclass(frozen=True)
class Method:
    """`needs` names the statistics; `quantize(weight [O, I], statistics, format, settings)` treats every row by itself.
    `scale(weights, statistics, formats)` chooses by what [I] the columns of matrices that share an input are multiplied before,
    where the input can be made as much smaller.
    """

    needs: Literal["nothing", "gram"]
    quantize: Quantize
    scale: Scale | None = None

    def apply(self, weight_OI: torch.Tensor, statistics: Statistics, form: Format, settings: Settings) -> Codes:
        """The codes of a matrix in float32; weights that are zero stay so."""
        rows = max(1, WORK // weight_OI.shape[1])
        parts = [self.quantize(part, statistics, form, settings) for part in torch.split(weight_OI.float(), rows)]
        if len(parts) == 1:
            return parts[0]
        scale_OG = torch.cat([part.grid.scale_OG for part in parts])
        zero_OG = torch.cat([part.grid.zero_OG for part in parts])
        return Codes(Grid(form, scale_OG, zero_OG), torch.cat([part.codes_OI for part in parts]))
