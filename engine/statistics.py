"""Intervals and paired tests, all from scipy: a number shown to a user carries its n and an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
DRAWS = 2_000  # for the interval of a single figure, of which a race tells many
BATCH = 500  # draws that are made together
ROUNDED = 3e-6  # differences of losses that are stored with six decimals are not told apart below
EQUAL = 1e-9  # a smaller spread of differences is rounding, and no test can use it


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95% Wilson interval of a proportion."""
    interval = scipy.stats.binomtest(correct, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% t-interval of a mean; infinite for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    error = float(scipy.stats.sem(values))
    if error == 0:
        return float(np.mean(values)), float(np.mean(values))
    low, high = scipy.stats.t.interval(CONFIDENCE, len(values) - 1, loc=np.mean(values), scale=error)
    return float(low), float(high)


def mean_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of a - b with its 95% t-interval; None where they are not of the same, or too few."""
    if len(a) != len(b) or len(a) < 2:
        return None
    differences = np.subtract(a, b).tolist()
    return float(np.mean(differences)), *mean_interval(differences)


def mcnemar(a_only: int, b_only: int) -> float:
    """Exact two-sided McNemar p-value from the discordant pairs: a right and b wrong, and the reverse."""
    discordant = a_only + b_only
    return float(scipy.stats.binomtest(a_only, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment (1979) of p-values that are looked at together: the k-th smallest of m times m - k + 1, made
    monotone, at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out, highest = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        out[index] = highest
    return out


def above_zero(differences: NDArray[np.float64], alpha: float) -> bool:
    """Whether paired differences are significantly positive: one-sided t-test, their sign where they are all alike (sign
    test). A single one says nothing.
    """
    if len(differences) < 2:
        return False
    if np.ptp(differences) < EQUAL:
        return bool(differences.mean() > EQUAL) and 0.5 ** len(differences) < alpha
    return bool(scipy.stats.ttest_1samp(differences, 0, alternative="greater").pvalue < alpha)


def inferior(differences: NDArray[np.float64], margin: float) -> float:
    """p-value of the mean of paired differences being `margin` below zero or more: one-sided t-test. Where they are all alike,
    that no row in so many is one behind if a share of them is (exact binomial): few rows prove nothing.
    """
    n, spare = len(differences), float(differences.mean()) + margin
    if n < 2 or np.ptp(differences) < EQUAL:
        return float(min(1.0, max(0.0, 1 - spare)) ** n)
    return float(scipy.stats.t.sf(spare / scipy.stats.sem(differences), n - 1))


Figures = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""a figure of each of the sums [B, K] of rows' numbers"""


@dataclass(frozen=True)
class Paired:
    """figure(a) - figure(b) on the same n rows, an accuracy or another, with interval and p-value."""

    n: int
    difference: float
    low: float
    high: float
    p_value: float


def verdict(paired: Paired, p_holm: float, lower: bool = False) -> str:
    """A gain inside the noise is a tie: the interval must leave zero out, and Holm's p-value over all that is compared at once
    must be small. On few rows the bootstrap's interval alone is too narrow. `lower`: less is better."""
    if paired.low <= 0 <= paired.high or p_holm >= 1 - CONFIDENCE:
        return "tie"
    return "better" if (paired.difference > 0) != lower else "worse"


def verdicts(compared: Sequence[Paired], lower: bool = False) -> list[tuple[float, str]]:
    """Holm's p-value and the verdict of each of the comparisons that are looked at together."""
    adjusted = holm([paired.p_value for paired in compared])
    return [(p, verdict(paired, p, lower)) for paired, p in zip(compared, adjusted, strict=True)]


def compare(a: NDArray[np.bool_], b: NDArray[np.bool_], seed: int) -> Paired:
    """Paired comparison of right/wrong per row: exact McNemar, 10,000-fold paired percentile bootstrap. Rows drawn with
    replacement are a draw of how many of them are right by a alone, by b alone, and by both or neither.
    """
    n, a_only, b_only = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    difference, p_value = (a_only - b_only) / n, mcnemar(a_only, b_only)
    if a_only == b_only == 0:
        return Paired(n, 0.0, 0.0, 0.0, p_value)
    if n < 2:
        return Paired(n, difference, -1.0, 1.0, p_value)
    shares = (a_only / n, b_only / n, 1 - (a_only + b_only) / n)
    drawn = np.random.default_rng(seed).multinomial(n, shares, RESAMPLES)
    return Paired(n, difference, *percentiles((drawn[:, 0] - drawn[:, 1]) / n), p_value)


def compare_means(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Paired comparison of means over the same windows: t-interval and t-test of a - b, and where these are all alike, as far
    as stored losses tell, their sign in every window (sign test).
    """
    differences = np.subtract(a, b)
    n, mean = len(differences), float(differences.mean())
    low, high = mean_interval(differences.tolist())
    if np.ptp(differences) < ROUNDED:
        return Paired(n, mean, low, high, 1.0 if abs(mean) < ROUNDED else min(1.0, 2 * 0.5**n))
    return Paired(n, mean, low, high, float(scipy.stats.ttest_rel(a, b).pvalue))


def interval(rows_RK: NDArray[np.float64], figures: Figures, seed: int) -> tuple[float, float]:
    """95% percentile interval of the figure of the rows' sums, from a bootstrap that draws rows."""
    return percentiles(figures(redrawn(rows_RK, DRAWS, seed)))


def compare_sums(a_RK: NDArray[np.float64], b_RK: NDArray[np.float64], figures: Figures, seed: int) -> Paired:
    """Paired comparison of figures that are of sums over the rows: 10,000-fold paired percentile bootstrap, and approximate
    randomization, which swaps a's and b's answers to rows at random (Noreen 1989; Riezler & Maxwell 2005).
    """
    n, k = a_RK.shape
    difference = float((figures(a_RK.sum(0)[None]) - figures(b_RK.sum(0)[None]))[0])
    drawn = redrawn(np.concatenate([a_RK, b_RK], axis=1), RESAMPLES, seed)
    low, high = percentiles(figures(drawn[:, :k]) - figures(drawn[:, k:]))
    generator, half_RK, mean_K = np.random.default_rng(seed), (a_RK - b_RK) / 2, (a_RK + b_RK).sum(0) / 2
    extreme = 0
    for _ in range(RESAMPLES // BATCH):
        moved_BK = generator.choice((-1.0, 1.0), size=(BATCH, n)) @ half_RK
        swapped = figures(mean_K + moved_BK) - figures(mean_K - moved_BK)
        extreme += int((np.abs(swapped) >= abs(difference) - EQUAL).sum())
    return Paired(n, difference, low, high, (1 + extreme) / (1 + RESAMPLES))


def redrawn(rows_RK: NDArray[np.float64], times: int, seed: int) -> NDArray[np.float64]:
    """Sums [times, K] of as many rows, drawn with replacement."""
    n, generator = len(rows_RK), np.random.default_rng(seed)
    return np.concatenate([generator.multinomial(n, np.full(n, 1 / n), BATCH) @ rows_RK for _ in range(times // BATCH)])


def percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """What 95% of them lie between."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Regained:
    """The share of a gap between two accuracies that a third one makes good; None where the gap is inside the noise."""

    gap: Paired
    value: float | None = None
    low: float | None = None
    high: float | None = None


def regained(better: NDArray[np.bool_], base: NDArray[np.bool_], top: NDArray[np.bool_], seed: int) -> Regained:
    """(accuracy(better) - accuracy(base)) / (accuracy(top) - accuracy(base)) on the same rows, with the percentile interval
    of a 10,000-fold bootstrap that draws rows of all three together. No share where the gap's own interval reaches zero.
    """
    gap = compare(top, base, seed)
    if gap.low <= 0:
        return Regained(gap)
    pairs_2R = np.stack([better.astype(float) - base, top.astype(float) - base])
    n, generator = pairs_2R.shape[1], np.random.default_rng(seed)
    sums = [pairs_2R[:, generator.integers(n, size=(500, n))].sum(-1) for _ in range(RESAMPLES // 500)]
    won, lost = np.concatenate(sums, axis=1)
    shares = won[lost > 0] / lost[lost > 0]  # a draw in which nothing was lost has no share
    return Regained(gap, float(pairs_2R[0].sum() / pairs_2R[1].sum()), *percentiles(shares))
