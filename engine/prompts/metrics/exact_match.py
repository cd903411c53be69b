"""The share of answers that are a right one word for word, small letters, punctuation and English articles aside (SQuAD)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.prompts.metrics.token_f1 import words

FOR, SHOWN, BINARY = "answers", "percent", True


def values(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    pairs = zip(answers, references, strict=True)
    return np.array([any(words(answer) == words(one) for one in right) for answer, right in pairs], dtype=float)
