"""A folder for onnxruntime-genai (other modules: onnxruntime), float32."""

from __future__ import annotations

from engine.export.onnx.format import onnx_format

FORMAT = onnx_format(None)
