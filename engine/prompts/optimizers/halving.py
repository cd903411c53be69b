"""Sequential halving: all candidates meet the same rows, the worse half goes, the rest meet twice as many (Karnin 2013).

The budget is split evenly over the rounds. Where the last of them could not spend their share, since few candidates soon have
met all rows, the first get more: there most candidates are lost. Between rounds a one-sided paired t-test (alpha 0.02) may
drop more than half, whoever is significantly behind the leader on common rows; the rest then has fewer rounds and more rows.
Nobody goes before a block of rows, if the budget is enough for it: the best on a row or two is only lucky.
"""

from __future__ import annotations

import math

import numpy as np

from engine import statistics
from engine.prompts.race import Race

ALPHA = 0.02
HALVINGS = 20  # of the interval in which a round's share is looked for


def choose(race: Race) -> int:
    """The winner's index."""
    return halve(race, list(range(len(race.prompts))))


def halve(race: Race, alive: list[int]) -> int:
    """The winner among `alive`, with what is left of the budget: one row that counts for each of them at least."""
    number = 0
    while number == 0 or len(alive) > 1:
        number += 1
        share = _share(race, alive, max(1, math.ceil(math.log2(len(alive)))))
        block = race.block(alive)
        race.together(alive, max(share, block) if block <= race.left else share)
        alive = _next_round(race, alive, number)
    return alive[0]


def _share(race: Race, alive: list[int], rounds: int) -> float:
    """What the first of so many rounds may spend: as little more than an even share as leaves nothing over in the end, if
    whoever goes on costs what all do on the mean (of minutes: when rows have been met).
    """
    price = sum(race.price(race.tokens[c]) for c in alive) / len(alive)
    low, high = race.left / rounds, race.left
    if not price or not _left(race, alive, rounds, price, low):
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _left(race, alive, rounds, price, middle) else (low, middle)
    return high


def _left(race: Race, alive: list[int], rounds: int, price: float, first: float) -> float:
    """What is left of the budget after rounds that each halve the candidates, when the first one spends so much."""
    left, met, count = race.left, float(min(map(race.met, alive))), len(alive)
    for number in range(rounds):
        amount = first if number == 0 else left / (rounds - number)
        more = min(len(race.rows) - met, amount / (count * price))
        left, met, count = left - more * count * price, met + more, math.ceil(count / 2)
    return max(0.0, left - price)  # a row that is not whole is not met


def _next_round(race: Race, alive: list[int], number: int) -> list[int]:
    """The candidates that go on, best first; everybody's figures are reported."""
    order = race.ranked(alive)
    half = order[: max(1, math.ceil(len(order) / 2))]
    met = min(map(race.met, alive))
    leader = race.standing(order[0], met).evidence
    survivors = [c for c in half if c == order[0] or not _behind(race.standing(c, met).evidence, leader)]
    for candidate in order:
        race.tell(candidate, number, candidate in survivors)
    return survivors


def _behind(evidence: np.ndarray, leader: np.ndarray) -> bool:
    """Whether the leader is significantly ahead on the same rows; a single row tells nothing."""
    return statistics.above_zero(leader - evidence, ALPHA)
