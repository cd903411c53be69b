"""Compression and prompts together: rising levels, each with its prompts, and what of the loss they win back."""
