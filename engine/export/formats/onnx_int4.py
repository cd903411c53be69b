"""A folder for onnxruntime-genai (other modules: onnxruntime), codes of four bits."""

from __future__ import annotations

from engine.export.onnx.format import onnx_format

FORMAT = onnx_format(4)
