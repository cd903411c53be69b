"""Options of the training steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.options import StepOptions


class RecoverOptions(StepOptions):
    """Win back what compression lost: train the weights that stay, block by block, towards the dense model's outputs."""

    use: Literal["recover"]
    method: Literal["blockwise"] = "blockwise"
    """blockwise: each block by itself, on the calibration data, no labels and no logits needed"""
    epochs: int = Field(default=3, ge=1)
    """passes over the calibration data for each block"""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """AdamW's largest step, reached after the warm-up, then falling as a cosine"""
    batch: int = Field(default=2, ge=1)
    """calibration windows an optimizer step"""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """share of the optimizer steps in which the learning rate rises"""
    clip: float = Field(default=1.0, gt=0.0)
    """largest norm of a step's gradient"""
