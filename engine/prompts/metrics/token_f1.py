"""F1 of the words that an answer shares with the right one, the best of several right ones (SQuAD, arXiv 1606.05250)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN = "answers", "percent"
ARTICLES = {"a", "an", "the"}
PUNCTUATION = re.compile(r"(?<=\d)\.(?=\d)|(?<!\w)-(?=\.?\d)|([^\w\s]|_)")  # of these, what is no part of a number


def values(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    return np.array([max(f1(words(a), words(r)) for r in right) for a, right in zip(answers, references, strict=True)])


def words(text: str) -> list[str]:
    """In small letters, without punctuation and English articles, but numbers with their sign and point. A text of nothing else
    is read as it stands: the answer "A" has one word, an empty one has none.
    """
    small = text.casefold()
    found = PUNCTUATION.sub(lambda met: "" if met[1] else met[0], small).split()
    return [word for word in found if word not in ARTICLES] or found or small.split()


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """2 shared / (answered + asked for), words counted as often as they stand there; 1 where there are none at all."""
    both = len(answer) + len(reference)
    return 2 * (Counter(answer) & Counter(reference)).total() / both if both else 1.0
