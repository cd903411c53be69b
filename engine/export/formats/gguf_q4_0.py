"""A GGUF file for llama.cpp, Llama-family models, four bits around zero."""

from __future__ import annotations

from engine.export.gguf.model import gguf_format

FORMAT = gguf_format("Q4_0")
