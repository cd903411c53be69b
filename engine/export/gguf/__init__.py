"""GGUF files: blocks of quantized weights, the tokenizer as metadata, Llama-family models."""
