"""Options of the `quantize` step."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from engine.errors import UsageError
from engine.options import StepOptions
from engine.registry import METHODS

WIDTHS = (3, 4, 8)
"""bits that a matrix may have"""
BITS: Final = 4
BESIDE = {"bits": 8, "size_ratio": None, "group": 0, "symmetric": True}
"""what rounded inputs take: the layout of files that hold them"""


class QuantizeOptions(StepOptions):
    """Round the weights to integer codes of a few bits; what is zero stays zero. Exports take the codes as they are."""

    use: Literal["quantize"]
    method: str = "gptq"
    """how weights are rounded: see `compress-tui list methods`"""
    bits: Literal[3, 4, 8] = BITS
    """bits of a code"""
    size_ratio: float | None = Field(default=None, gt=0.0, lt=1.0)
    """instead of `bits`: 3, 4 or 8 for every matrix, so that the model takes this share of its bytes and loses least"""
    trial_windows: int = Field(default=4, ge=1)
    """size_ratio: calibration windows on which rounded matrices are compared with the dense model"""
    group: Literal[0, 32, 64, 128] = 32
    """neighbouring weights of a row that share a scale; 0: the whole row does"""
    symmetric: bool = False
    """the middle code means zero; otherwise every group has a code of its own for it, which costs `bits` more a group"""
    activations: Literal["none", "dynamic"] = "none"
    """dynamic: inputs of the quantized layers are rounded to eight bits too, by a scale for every token, whenever the model
    runs; takes bits = 8, group = 0, symmetric = true, and export to compressed_tensors
    """
    act_order: bool = True
    """gptq: columns with large inputs are rounded first"""
    clip: bool = True
    """gptq, awq: a group's grid may span less than its weights where that leaves a smaller error"""
    statistics: Literal["sequential", "dense"] = "sequential"
    """inputs as the layers quantized before change them, or as the model at hand has them (collected once, then cached)"""
    damping: float = Field(default=0.01, gt=0.0)
    """gptq: added to the Gram matrix's diagonal, as a share of its mean"""

    @field_validator("size_ratio")
    @classmethod
    def _instead_of_bits(cls, ratio: float | None, info: ValidationInfo) -> float | None:
        bits = info.data.get("bits", BITS)
        if ratio is not None and bits != BITS:
            message = f"size_ratio chooses the bits of every matrix, and bits = {bits} would say nothing"
            raise UsageError(message, hint="leave out one of the two")
        return ratio

    @field_validator("activations")
    @classmethod
    def _beside_eight_bits(cls, activations: str, info: ValidationInfo) -> str:
        known = {name: value for name, value in info.data.items() if name in BESIDE}
        if activations != "none" and known != {name: BESIDE[name] for name in known}:
            message = "inputs are rounded only beside codes of eight bits around zero, with a scale for every row"
            raise UsageError(message, hint="bits = 8, group = 0, symmetric = true, without size_ratio")
        return activations

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return METHODS.check(name)
