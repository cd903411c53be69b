"""Two runs' models against each other, window by window and row by row: what they differ by, and whether that is noise.

No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from engine import events as ev
from engine import outcome, statistics
from engine.figures import PERPLEXITY
from engine.state import RunState
from engine.statistics import Paired

DENSE = "dense"
SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Difference:
    """The figure of run `a`'s last model against that of run `b`, both of the same n windows or rows: `difference` of
    accuracies in shares of 1, of perplexities the share by which a's is higher than b's. `p_holm` is Holm's over all that is
    compared at once; the verdict on `a` needs the interval and it.
    """

    a: str
    b: str
    figure: str
    stage_a: str
    stage_b: str
    n: int
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Apart:
    """A figure that run `b` has and that of run `a` cannot be set against, and why."""

    a: str
    b: str
    figure: str
    reason: str


def differences(states: Sequence[RunState], names: Sequence[str]) -> tuple[list[Difference], list[Apart]]:
    """Every run after the first against the first, in every figure that is measured window by window or row by row."""
    base, *others = map(last, states)
    met, apart = [], []
    for run, other in zip(names[1:], others, strict=True):
        for name, figures_b in base.items():
            found = match(other.get(name, []), figures_b)
            if isinstance(found, str):
                apart.append(Apart(run, names[0], name, found))
            else:
                met.append((run, name, *found))
    compared = [paired(mine, theirs) for _, _, mine, theirs in met]
    adjusted = statistics.holm([found.p_value for found in compared])
    return [
        Difference(
            a=run, b=names[0], figure=name, stage_a=mine.stage, stage_b=theirs.stage, n=found.n, value_a=mine.value,
            value_b=theirs.value, **_shown(name, found), p_value=found.p_value, p_holm=p_holm,
            verdict=statistics.verdict(found, p_holm, lower=name == PERPLEXITY),
        )
        for (run, name, mine, theirs), found, p_holm in zip(met, compared, adjusted, strict=True)
    ], apart  # fmt: skip


def last(state: RunState) -> dict[str, list[ev.Metric]]:
    """The figures of a run's models that can be compared, the newest first: not of the dense model where a step changed it,
    as what is compared is what the run came to, and not of what a file is only held against.
    """
    own = [stage for stage in state.metrics if not outcome.of_reference(stage)]
    made = [stage for stage in own if stage != DENSE] or own
    found: dict[str, list[ev.Metric]] = {}
    for stage in reversed(made):
        for name, metric in state.metrics[stage].items():
            if name == PERPLEXITY or metric.right:
                found.setdefault(name, []).append(metric)
    return found


def match(mine: Sequence[ev.Metric], theirs: Sequence[ev.Metric]) -> tuple[ev.Metric, ev.Metric] | str:
    """The newest of either that are of the same windows or rows (a file may be asked for fewer rows than the model before), or
    why there are none. What is not finite is not gone past.
    """
    if not mine:
        return "not measured"
    for a, b in product(mine, theirs):
        if not (isfinite(a.value) and isfinite(b.value)):
            return "not finite"
        if a.data and a.data == b.data and len(a.losses or a.right) == len(b.losses or b.right):
            return a, b
    if mine[0].name != PERPLEXITY:
        return "not of the same rows"
    known = mine[0].data and theirs[0].data
    return "not of the same windows" if known else "of a run that did not keep what every window had"


def paired(a: ev.Metric, b: ev.Metric) -> Paired:
    """The figures of the same windows or rows."""
    if a.losses:
        return statistics.compare_means(a.losses, b.losses)
    return statistics.compare(_right(a), _right(b), SEED)


def _right(metric: ev.Metric) -> NDArray[np.bool_]:
    return np.array([mark == "1" for mark in metric.right])


def _shown(name: str, found: Paired) -> dict[str, float]:
    values = np.array([found.difference, found.low, found.high])
    if name == PERPLEXITY:
        with np.errstate(over="ignore"):
            values = np.expm1(values)  # from nats a token
    return dict(zip(("difference", "low", "high"), values.tolist(), strict=True))
