"""Two runs' models against each other, window by window and row by row: what they differ by, and whether that is noise.

No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import events as ev
from engine import statistics
from engine.state import RunState
from engine.statistics import Paired

SEED = 0  # of the bootstrap
PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class Difference:
    """The figure of run `a`'s last model that has it against that of run `b`, both of the same n windows or rows: `difference`
    of accuracies in shares of 1, of perplexities the share by which a's is higher than b's. `p_holm` is Holm's over all that
    is compared at once; the verdict on `a` needs the interval and it.
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


def differences(states: Sequence[RunState], names: Sequence[str]) -> list[Difference]:
    """Every run after the first against the first, in every figure that both have of the same windows or rows."""
    base, *others = (last(state) for state in states)
    met = [(run, name, found[name], base[name]) for run, found in zip(names[1:], others, strict=True)
           for name in base if name in found and base[name].data == found[name].data]  # fmt: skip
    compared = [paired(mine, theirs) for _, _, mine, theirs in met]
    adjusted = statistics.holm([found.p_value for found in compared])
    return [
        Difference(
            a=run, b=names[0], figure=name, stage_a=mine.stage, stage_b=theirs.stage, n=found.n, value_a=mine.value,
            value_b=theirs.value, **_shown(name, found), p_value=found.p_value, p_holm=p_holm,
            verdict=statistics.verdict(found, p_holm, lower=name == PERPLEXITY),
        )
        for (run, name, mine, theirs), found, p_holm in zip(met, compared, adjusted, strict=True)
    ]  # fmt: skip


def last(state: RunState) -> dict[str, ev.Metric]:
    """The figures of a run's last model that has them, where they can be compared."""
    references = {event.reference for event in state.references.values()}
    own = [metrics for stage, metrics in state.metrics.items() if stage not in references]
    return {
        name: found
        for metrics in own
        for name, found in metrics.items()
        if found.data and (found.losses or found.right)
    }


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
