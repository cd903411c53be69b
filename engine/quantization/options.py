"""Options of the `quantize` step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from engine.options import StepOptions
from engine.registry import METHODS

WIDTHS = (3, 4, 8)
"""bits that a matrix may have"""


class QuantizeOptions(StepOptions):
    """Round the weights to integer codes of a few bits; what is zero stays zero. Exports take the codes as they are."""

    use: Literal["quantize"]
    method: str = "gptq"
    """how weights are rounded: see `compress-tui list methods`"""
    bits: Literal[3, 4, 8] = 4
    """bits of a code"""
    size_ratio: float | None = Field(default=None, gt=0.0, lt=1.0)
    """instead of `bits`: 3, 4 or 8 for every matrix, so that the model takes this share of its bytes and loses least"""
    trial_windows: int = Field(default=4, ge=1)
    """size_ratio: calibration windows on which rounded matrices are compared with the dense model"""
    group: Literal[0, 32, 64, 128] = 32
    """neighbouring weights of a row that share a scale; 0: the whole row does"""
    symmetric: bool = False
    """the middle code means zero; otherwise every group has a code of its own for it, which costs `bits` more a group"""
    act_order: bool = True
    """gptq: columns with large inputs are rounded first"""
    clip: bool = True
    """gptq, awq: a group's grid may span less than its weights where that leaves a smaller error"""
    statistics: Literal["sequential", "dense"] = "sequential"
    """inputs as the layers quantized before change them, or as the model at hand has them (collected once, then cached)"""
    damping: float = Field(default=0.01, gt=0.0)
    """gptq: added to the Gram matrix's diagonal, as a share of its mean"""

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return METHODS.check(name)
