"""Measurement: perplexity, task accuracy, size, speed and memory, each with its n and interval."""
