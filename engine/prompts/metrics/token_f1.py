"""F1 of the words that an answer shares with the right one, the best of several right ones (SQuAD, arXiv 1606.05250)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN = "answers", "percent"
ARTICLES = {"a", "an", "the"}


def values(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    return np.array([max(f1(words(a), words(r)) for r in right) for a, right in zip(answers, references, strict=True)])


def words(text: str) -> list[str]:
    """In small letters, without punctuation and English articles."""
    found = re.sub(r"[^\w\s]|_", "", text.casefold()).split()
    return [word for word in found if word not in ARTICLES]


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """2 shared / (answered + asked for), words counted as often as they stand there; 1 where there are none at all."""
    both = len(answer) + len(reference)
    return 2 * (Counter(answer) & Counter(reference)).total() / both if both else 1.0
