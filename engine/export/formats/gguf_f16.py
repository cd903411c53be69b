"""A GGUF file for llama.cpp, Llama-family models, weights in float16."""

from __future__ import annotations

from engine.export.gguf.model import gguf_format

FORMAT = gguf_format("F16")
