"""A GGUF file for llama.cpp, Llama-family models, eight bits."""

from __future__ import annotations

from engine.export.gguf.model import gguf_format

FORMAT = gguf_format("Q8_0")
