"""The shortest prompt that loses next to nothing against a reference, on the development rows that both have met.

While they meet more rows, one-sided paired tests, lenient about what counts as a loss, say who is given up: at alpha = 0.2.
That no loss was seen is no proof that there is none: in the end a prompt must also be non-inferior, the lower end of the
one-sided 95% interval of the paired difference above a margin (Piaggio et al. 2012, CONSORT's statement on such trials), by
Holm's p-value over all that met those rows, whoever has left since: of many that lose too much one may look harmless by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import scipy

from engine import statistics
from engine.prompts.judging import Standing
from engine.prompts.race import Race

ALPHA = 0.2
ROUNDS = 2


def choose(
    race: Race, candidates: Sequence[int], start: int, most: int, first: int = 0, max_loss: float = math.inf
) -> int:
    """The shortest that stays level with the start while both meet more rows, as far as the budget goes.

    At most `most` are in at a time, shortest first. After every round whoever is behind leaves, the next shortest take the free
    places, and all share what is left. The `first` rows say who may come in, and count no more then.
    """
    waiting = [c for c in by_length(race, candidates) if c != start and lasting(race, c, start)]
    race.first, alive, tried = first, list[int](), list[int]()
    for left in range(ROUNDS, 0, -1):
        free = most - len(alive)
        alive, waiting = [*alive, *waiting[:free]], waiting[free:]
        race.together([start, *alive], race.left / left)
        before = [c for c in alive if race.met(c) > race.first]
        tried += [c for c in before if c not in tried]
        alive = [c for c in before if lasting(race, c, start)]
        for index in (start, *before):
            race.tell(index, ROUNDS - left + 1, index == start or index in alive)
    return pick(race, start, max_loss, [start, *tried])


def pick(race: Race, start: int, max_loss: float, candidates: Sequence[int]) -> int:
    """The shortest of the candidates that are not behind the start and, by what the rows prove, lose at most `max_loss`; the
    start itself when there is none. `candidates` are all that met these rows, those that have left too.
    """
    shorter = [c for c in by_length(race, candidates) if race.tokens[c] < race.tokens[start]]
    risks = statistics.holm([risk(*in_common(race, c, start), max_loss) for c in shorter])
    proven = [c for c, p in zip(shorter, risks, strict=True) if p < 1 - statistics.CONFIDENCE]
    return next((c for c in proven if lasting(race, c, start)), start)


def risk(one: Standing, other: Standing, max_loss: float) -> float:
    """p-value of `one` losing `max_loss` or more against `other` on the same rows; in the metric's units, of the skill (of
    choices an estimate of the figure that is less noisy than the figure is).
    """
    return statistics.inferior(one.shares - other.shares, max_loss)


def in_common(race: Race, one: int, other: int) -> tuple[Standing, Standing]:
    """Both on the rows that both have met."""
    rows = min(race.met(one), race.met(other))
    return race.standing(one, rows), race.standing(other, rows)


def by_length(race: Race, candidates: Sequence[int]) -> list[int]:
    """Shortest first; of equal length the better one."""
    return sorted(race.ranked(candidates), key=lambda c: race.tokens[c])


def lasting(race: Race, candidate: int, start: int) -> bool:
    """Whether a candidate that is shorter than the start is level with it."""
    shorter = race.tokens[candidate] < race.tokens[start]
    return shorter and not behind(*in_common(race, candidate, start))


def behind(one: Standing, other: Standing) -> bool:
    """Whether `one` is significantly worse than `other` on the same rows: in right answers (exact, McNemar), where the metric
    counts these, or in what tells it sooner.
    """
    if one.measured.binary:
        lost = int((other.measured.right & ~one.measured.right).sum())
        won = int((one.measured.right & ~other.measured.right).sum())
        if lost > won and scipy.stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue < ALPHA:
            return True
    return statistics.above_zero(other.evidence - one.evidence, ALPHA)
