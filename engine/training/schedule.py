"""The learning rate of every optimizer step: a linear warm-up, then half a cosine. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """AdamW with warm-up and cosine; `steps` in all, `clip` bounds the gradient's norm."""

    steps: int
    learning_rate: float
    warmup: float
    clip: float

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        along = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * along))
