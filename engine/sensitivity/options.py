"""Options of the `sensitivity` step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from engine.options import StepOptions
from engine.registry import CRITERIA


class SensitivityOptions(StepOptions):
    """Measure how much each matrix, block and head matters, without changing anything."""

    use: Literal["sensitivity"]
    criterion: str = "wanda"
    """who decides what would go: see `compress-tui list criteria`"""
    ratios: list[float] = Field(default=[0.3, 0.4, 0.5, 0.6, 0.7], min_length=1)
    """sparsities at which the output errors are measured, ascending; losses at the middle one"""
    unit: Literal["matrix", "block", "none"] = "block"
    """what is pruned alone to see what the model's loss moves; none measures output errors only"""
    windows: int = Field(default=4, ge=1)
    """calibration windows for the losses"""
    heads: bool = True
    """also silence each attention head group alone"""

    @field_validator("criterion")
    @classmethod
    def _known_criterion(cls, name: str) -> str:
        return CRITERIA.check(name)

    @field_validator("ratios")
    @classmethod
    def _ascending(cls, ratios: list[float]) -> list[float]:
        if ratios != sorted(set(ratios)) or not 0 < ratios[0] <= ratios[-1] < 1:
            raise ValueError("sparsities between 0 and 1, in ascending order")
        return ratios
