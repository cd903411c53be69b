"""Rows sorted by class are found and mixed; a random order is left alone; every beginning of a mixed one is in proportion."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import order
from engine.data.rows import Row


@pytest.mark.parametrize(
    ("golds", "found"),
    [
        ([0] * 4 + [1] * 4, True),
        ([0] * 50 + [1] * 50, True),
        ([2] * 30 + [0] * 30 + [1] * 30, True),
        ([0] * 98 + [1] * 2, True),
        (([0] * 10 + [1] * 10) * 5, True),
        ([0, 1] * 50, False),
        ([0, 0, 1, 1] * 25, False),
        ([0] * 50, False),
        ([0, 1], False),
        ([], False),
    ],
)
def test_what_is_sorted(golds: list[int], found: bool) -> None:
    assert order.is_sorted(golds) == found


def test_the_mean_number_of_runs() -> None:
    golds, generator = [0] * 30 + [1] * 20 + [2] * 10, random.Random(0)
    expected = 61 - (30**2 + 20**2 + 10**2) / 60
    runs = []
    for _ in range(400):
        generator.shuffle(golds)
        assert not order.is_sorted(golds)
        runs.append(1 + sum(a != b for a, b in zip(golds, golds[1:], strict=False)))
    assert sum(runs) / len(runs) == pytest.approx(expected, abs=1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9))
def test_every_beginning_is_in_proportion(golds: list[int], seed: int) -> None:
    rows = [Row(str(i), {}, ("a", "b", "c", "d"), gold) for i, gold in enumerate(golds)]
    found, whole = order.mixed(rows, str(seed)), Counter(golds)
    assert sorted(found, key=lambda row: int(row.text)) == rows
    assert found == order.mixed(rows, str(seed))
    for end in range(len(rows) + 1):
        for gold, count in whole.items():
            met = sum(row.gold == gold for row in found[:end])
            assert abs(met - count * end / len(rows)) < len(whole)
