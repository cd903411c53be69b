"""A GGUF file for llama.cpp, Llama-family models, four bits from the least weight of a block up; no exact zeros."""

from __future__ import annotations

from engine.export.gguf.model import gguf_format

FORMAT = gguf_format("Q4_1")
