"""What a metric makes of rows: a value for each, a figure of all, its interval, and the paired comparison of two prompts.

Metrics are files (see metrics/). No torch here: the command line compares what runs have kept.
Shapes: R rows, C choices, K numbers of a row that add up, B sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from engine import figures, registry, statistics
from engine.statistics import Paired

ACCURACY, EXACT_MATCH = "accuracy", "exact_match"
SETTLED = 900
"""rows by which accuracy and what the margins say of it count the same: 0.09 / 0.01^2, a row's variance in their difference and
that between prompts, a standard deviation of a point; chance alone explained what was seen of it (bench/LOG.md)"""
ONE_ERROR = float(scipy.special.ndtr(-1))  # how likely chance alone is ahead by one standard error


@dataclass(frozen=True)
class Measured:
    """Rows by a metric; `parts_RK` where its figure is of sums and not the mean of the values."""

    metric: str
    values: NDArray[np.float64]
    parts_RK: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, metric: str, *given: Any) -> Measured:
        """What the metric makes of what its `values` takes."""
        how: Any = registry.metric(metric)
        return cls(metric, how.values(*given), how.parts(*given) if hasattr(how, "parts") else None)

    @property
    def binary(self) -> bool:
        """Whether a row is right or wrong."""
        return figures.binary(self.metric)

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        return figures.lower(self.metric)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Of a binary metric."""
        return self.values > 0.5

    @property
    def figure(self) -> float:
        return float(self.figures(self.sums.sum(0)[None])[0])

    @property
    def sums(self) -> NDArray[np.float64]:
        """What of the rows is added up [R, K]."""
        return np.stack([self.values, np.ones_like(self.values)], 1) if self.parts_RK is None else self.parts_RK

    def figures(self, sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
        """The figure of each of such sums."""
        if self.parts_RK is None:
            return sums_BK[:, 0] / sums_BK[:, 1]
        how: Any = registry.metric(self.metric)
        found: NDArray[np.float64] = how.figure(sums_BK)
        return found

    @property
    def influence(self) -> NDArray[np.float64]:
        """What each row adds to the figure, which is their mean [R]: its value or, of a figure of sums, the jackknife's
        pseudo-value (Tukey 1958), moved by their mean's bias.
        """
        n = len(self.values)
        if self.parts_RK is None:
            return self.values
        if n < 2:
            return np.full(n, self.figure)
        without_R = self.figures(self.sums.sum(0) - self.sums)
        out: NDArray[np.float64] = self.figure + (n - 1) * (without_R.mean() - without_R)
        return out

    def interval(self, seed: int) -> tuple[float, float]:
        """95%: Wilson's for right and wrong, else a bootstrap's percentiles."""
        if self.binary:
            return statistics.wilson(int(self.right.sum()), len(self.values))
        return statistics.interval(self.sums, self.figures, seed)

    def against(self, other: Measured, seed: int) -> Paired:
        """This figure minus the other's on the same rows: exact McNemar for right and wrong, else approximate randomization."""
        if self.binary:
            return statistics.compare(self.right, other.right, seed)
        return statistics.compare_sums(self.sums, other.sums, self.figures, seed)


@dataclass(frozen=True)
class Standing:
    """A prompt's figures on the rows it has met.

    `margins` say of every row how well it was answered, `margin` is their mean: log P(gold) - log P(best other choice) in units
    of their own standard deviation, so that a prompt gains nothing by being sharp; of free answers the metric's values. Prompts
    are ranked by `skill`, the higher the better; `shares` are what each row adds to it, but for a factor. `correct` is None
    where answers are not just right or wrong.
    """

    measured: Measured
    skill: float
    margin: float
    margins: NDArray[np.float64]
    correct: NDArray[np.bool_] | None
    shares: NDArray[np.float64]

    @property
    def quality(self) -> float:
        """The metric's figure."""
        return self.measured.figure

    @property
    def rows(self) -> int:
        return len(self.margins)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """What of the rows tells soonest that a prompt is worse than another: the margins, but for a figure of sums, in which
        rows count differently, what they add to the skill.
        """
        return self.margins if self.measured.parts_RK is None else self.shares

    def worse(self) -> Standing:
        """One that is behind this one on every row, and has none right."""
        correct = None if self.correct is None else np.zeros_like(self.correct)
        return replace(self, skill=self.skill - 1, margin=self.margin - 1, margins=self.margins - 1, correct=correct,
                       shares=self.shares - 1)  # fmt: skip

    def leads(self, other: Standing) -> bool:
        """Whether the skill is ahead of another's on the same rows by a standard error of the paired difference, or more
        (the one-standard-error rule: Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
        """
        return statistics.above_zero(self.shares - other.shares, ONE_ERROR)


def of_choices(metric: str, log_probs_RC: NDArray[np.float64], gold: Sequence[int]) -> Standing:
    """From calibrated log-probabilities. The skill is an estimate of the figure with less noise than it has on few rows: the
    figure shrunk to Phi(margin), the share that normally distributed margins of this mean would have above zero, by as many
    rows as SETTLED (of a figure that is not the rows' mean, the mean of both); of the negative log-likelihood it is the
    (geometric) mean probability of the right choice. A row's share in Phi(margin) is along its tangent at the mean.
    """
    gold_R = np.array(list(gold))
    measured = Measured.of(metric, log_probs_RC, gold_R)
    of_gold = np.take_along_axis(log_probs_RC, gold_R[:, None], axis=1)[:, 0]
    others_RC = log_probs_RC.copy()
    np.put_along_axis(others_RC, gold_R[:, None], -np.inf, axis=1)
    margins = of_gold - others_RC.max(1)
    spread = float(margins.std())
    margins = margins / (spread if spread > statistics.EQUAL else 1.0)
    margin, figure = float(margins.mean()), measured.figure
    correct = log_probs_RC.argmax(1) == gold_R
    if measured.lower:
        return Standing(measured, float(np.exp(-figure)), margin, margins, correct, -measured.values)
    normal, rows = float(scipy.special.ndtr(margin)), len(gold_R)
    weight = rows / (rows + SETTLED) if measured.parts_RK is None else 0.5
    normal_R = normal + float(scipy.stats.norm.pdf(margin)) * (margins - margin)
    skill = weight * figure + (1 - weight) * normal
    shares = weight * measured.influence + (1 - weight) * normal_R
    return Standing(measured, skill, margin, margins, correct, shares)


def of_answers(metric: str, answers: Sequence[str], references: Sequence[Sequence[str]]) -> Standing:
    """From texts: the skill is the figure."""
    measured = Measured.of(metric, answers, references)
    values = measured.values
    correct = measured.right if measured.binary else None
    return Standing(measured, measured.figure, float(values.mean()), values, correct, measured.influence)
