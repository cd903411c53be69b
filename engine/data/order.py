"""Rows of a file that is sorted by class, brought into a mixed order, so that whoever looks at a part of them sees all classes.

Other rows stay in the file's order, in which others count them too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from engine.data.rows import Row

FEW = 0.5
"""of the runs that chance makes; news in the order of time has 0.9"""


def is_sorted(golds: Sequence[int]) -> bool:
    """Whether rows of one class follow each other in far fewer runs than in a random order, where there are
    n + 1 - sum(n_c^2) / n on the mean (Barton & David 1957, Multiple runs, Biometrika 44).
    """
    n, counts = len(golds), Counter(golds).values()
    runs = 1 + sum(a != b for a, b in pairwise(golds))
    return len(counts) > 1 and runs < FEW * (n + 1 - sum(c**2 for c in counts) / n)


def mixed(rows: Sequence[Row], seed: str) -> list[Row]:
    """The rows in an order of which every beginning has the classes in the proportions of the whole, as near as whole rows
    allow; within a class by seed.
    """
    classes: dict[int, list[Row]] = {}
    for row in random.Random(seed).sample(rows, len(rows)):
        classes.setdefault(row.gold, []).append(row)
    placed = [((k + 0.5) / len(own), gold, row) for gold, own in classes.items() for k, row in enumerate(own)]
    return [row for _, _, row in sorted(placed, key=lambda one: one[:2])]
