"""Options of the `export` step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from engine.options import StepOptions
from engine.registry import FORMATS


class ExportOptions(StepOptions):
    """Write the model to the run's artifacts folder, reload it and measure it again."""

    use: Literal["export"]
    format: str = "safetensors"
    """file format: see `compress-tui list formats`"""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """number format of the stored weights; auto is the dtype that the run computes in; gguf and onnx have their own"""
    verify: bool = True
    """reload the folder and compare its perplexity with the model in memory"""
    reference: bool | None = None
    """measure too what the dense model is worth when it is only quantized (gptq), to about the bytes of this artifact; by
    default for models of up to a thousand million weights that more than a quantize step has changed, when the file takes
    less than 16 bits for each of the dense model's weights"""
    rows: int = Field(default=200, ge=1)
    """test rows of each task that the file answers with the prompt that was chosen, and an ONNX file with the plain one"""
    tolerance: float | None = Field(default=None, gt=0.0)
    """largest relative change of perplexity that the check accepts; by default 0.01, 0.02 for ONNX with codes, and any where
    writing rounds"""

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        return FORMATS.check(name)
