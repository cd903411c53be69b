"""BLEU of all answers together (Papineni et al. 2002), as sacrebleu counts and smooths it; a row has its sentence BLEU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOR, SHOWN = "answers", "points"
ORDER = 4  # words of the longest n-gram


def values(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    pairs = zip(answers, references, strict=True)
    return np.array([scored(answer, tuple(right)).score / 100 for answer, right in pairs])


def parts(answers: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """[R, 10]: n-grams of each length that a reference has, all of them, the answer's words, the nearest reference's."""
    found = (scored(answer, tuple(right)) for answer, right in zip(answers, references, strict=True))
    return np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in found], dtype=float)


@lru_cache(maxsize=10_000)
def scored(answer: str, right: tuple[str, ...]) -> Any:
    """sacrebleu's counts of one answer, for values and parts alike."""
    from sacrebleu import sentence_bleu

    return sentence_bleu(answer, list(right))


def figure(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The geometric mean of the precisions times the brevity penalty. The k-th precision of zero counts as 1 / (2^k n-grams);
    0 where there is an order without any n-gram.
    """
    counts, totals = sums_BK[:, :ORDER], sums_BK[:, ORDER : 2 * ORDER]
    length, wanted = sums_BK[:, -2], sums_BK[:, -1]
    smoothed = 1 / 2.0 ** np.cumsum(counts == 0, axis=1)
    precisions = np.where(counts > 0, counts, smoothed) / np.maximum(totals, 1)
    penalty = np.exp(np.minimum(0, 1 - wanted / np.maximum(length, 1)))
    whole = (totals > 0).all(1) & (counts > 0).any(1)
    means: NDArray[np.float64] = np.where(whole, penalty * np.exp(np.log(precisions).mean(1)), 0.0)
    return means
