"""One way to make new prompts from old ones a file: `adjust(setting) -> generator` (see engine/prompts/adjusting.py)."""
