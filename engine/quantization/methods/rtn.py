"""Rounds every weight to the nearest point of its group's grid, which spans the group's weights."""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.quantization.grid import Codes, Format, span
from engine.quantization.method import Method, Settings


def quantize(weight_OI: torch.Tensor, statistics: Statistics, form: Format, settings: Settings) -> Codes:
    """The nearest codes; no weight within its group's range is off by more than half a step."""
    return Codes.nearest(weight_OI, span(weight_OI, form))


METHOD = Method(needs="nothing", quantize=quantize)
