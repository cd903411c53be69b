"""Intervals and paired tests against known values and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.statistics import (
    Paired,
    above_zero,
    compare,
    compare_means,
    holm,
    inferior,
    mcnemar,
    mean_difference,
    mean_interval,
    regained,
    verdicts,
    wilson,
)

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)  # the last: Newcombe 1998, table I
def test_wilson_gives_the_published_values(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_is_its_closed_form(n: int, share: float) -> None:
    correct = round(share * n)
    p = correct / n
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    low, high = wilson(correct, n)
    assert (low, high) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-6)
    assert low <= p <= high


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(a_only: int, b_only: int) -> None:
    n = a_only + b_only
    tail = sum(math.comb(n, k) for k in range(min(a_only, b_only) + 1)) / 2**n
    assert mcnemar(a_only, b_only) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(a_only, b_only) == mcnemar(b_only, a_only)


@pytest.mark.parametrize(
    ("pair", "p"), [((0, 0), 1.0), ((1, 0), 1.0), ((5, 0), 0.0625), ((6, 0), 0.03125), ((8, 2), 0.109375)]
)
def test_mcnemar_of_few_pairs(pair: tuple[int, int], p: float) -> None:
    assert mcnemar(*pair) == pytest.approx(p)


def test_the_interval_of_a_mean() -> None:
    # t(0.975, 3) = 3.182446; the standard error of 1, 2, 3, 4 is sqrt(5/12)
    half = 3.182446 * math.sqrt(5 / 12)
    assert mean_interval([1, 2, 3, 4]) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)
    assert mean_interval([3.0]) == (-math.inf, math.inf)
    assert mean_difference([2, 4, 6, 8], [1, 2, 3, 4]) == (2.5, *mean_interval([1, 2, 3, 4]))
    assert mean_difference([1, 2], [1]) is mean_difference([1], [1]) is None
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)


def test_means_of_the_same_windows_are_compared_by_a_paired_t_test() -> None:
    found = compare_means([2, 4, 6, 8], [1, 2, 3, 4])
    half = 3.182446 * math.sqrt(5 / 12)
    assert (found.n, found.difference) == (4, 2.5)
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)
    t = 2.5 / math.sqrt(5 / 12)  # of 3 degrees of freedom, whose distribution function is closed
    tail = 0.5 - (math.atan(t / math.sqrt(3)) + t / math.sqrt(3) / (1 + t * t / 3)) / math.pi
    assert found.p_value == pytest.approx(2 * tail)


def test_differences_that_are_all_alike_count_by_their_sign_and_rounding_not_at_all() -> None:
    assert compare_means([1, 2, 3], [0.5, 1.5, 2.5]).p_value == 0.25
    assert compare_means([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5]).p_value == 2 / 64
    assert alone(compare_means([1.000001] * 20, [1.0] * 20)) == "tie"
    assert compare_means([1.0], [2.0]).p_value == 1


def answers(*right: float) -> np.ndarray:
    return np.array(right, dtype=bool)


def alone(found: Paired) -> str:
    """The verdict where this is the only comparison."""
    ((_, verdict),) = verdicts([found])
    return verdict


def test_the_bootstrap_interval_covers_the_truth() -> None:
    """100 experiments with a true gain of 0.15: about 95% of the intervals hold it."""
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        b = random.random(150) < 0.5
        a = np.where(b, random.random(150) < 0.9, random.random(150) < 0.4)  # gain = 0.5 * 0.4 - 0.5 * 0.1
        found = compare(a, b, seed)
        covered += found.low <= 0.15 <= found.high
    assert 0.90 <= covered / 100 <= 0.99


def test_the_bootstrap_interval_is_near_the_normal_one() -> None:
    random = np.random.default_rng(1)
    a, b = random.random(2000) < 0.6, random.random(2000) < 0.5
    found = compare(a, b, 0)
    difference = a.astype(float) - b
    half = Z * difference.std() / math.sqrt(2000)
    assert found.difference == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=2e-3)
    assert alone(found) == "better"
    assert found.p_value < 0.001


def test_the_comparison_is_antisymmetric_and_repeatable() -> None:
    random = np.random.default_rng(2)
    a, b = random.random(300) < 0.7, random.random(300) < 0.5
    forward, back = compare(a, b, 3), compare(b, a, 3)
    assert forward == compare(a, b, 3)
    assert back.difference == -forward.difference
    assert back.p_value == forward.p_value
    assert (alone(forward), alone(back)) == ("better", "worse")
    assert (-back.high, -back.low) == pytest.approx((forward.low, forward.high), abs=0.02)


def test_equal_answers_are_a_tie() -> None:
    a = answers(1, 0, 1, 1)
    assert compare(a, a, 0) == Paired(4, 0.0, 0.0, 0.0, 1.0)
    assert alone(compare(a, a, 0)) == "tie"


def test_a_gain_inside_the_noise_is_a_tie() -> None:
    assert alone(compare(answers(1, 1, 0, 0, 1, 0), answers(1, 0, 1, 0, 0, 0), 0)) == "tie"


def test_a_single_row_decides_nothing() -> None:
    found = compare(answers(1), answers(0), 0)
    assert (found.n, found.difference, found.p_value, alone(found)) == (1, 1.0, 1.0, "tie")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), st.integers(0, 5))
def test_the_interval_holds_the_difference(pairs: list[tuple[bool, bool]], seed: int) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    found = compare(a, b, seed)
    assert found.n == len(pairs)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert 0 < found.p_value <= 1


def test_five_rows_gained_and_none_lost_are_a_tie_whatever_the_interval_says() -> None:
    found = compare(np.ones(100, dtype=bool), np.arange(100) >= 5, 0)
    assert found.low > 0
    assert found.p_value == pytest.approx(0.0625)
    assert alone(found) == "tie"


def test_verdicts_of_several_comparisons_share_one_error_rate() -> None:
    base = np.arange(100)
    six, ten = (compare(np.ones(100, dtype=bool), base >= lost, 0) for lost in (6, 10))
    assert alone(six) == "better"
    assert verdicts([six]) == [(six.p_value, "better")]
    assert verdicts([six, six]) == [(2 * six.p_value, "tie")] * 2
    assert [judged for _, judged in verdicts([ten, six])] == ["better", "better"]
    assert [p for p, _ in verdicts([ten, six, six])] == holm([ten.p_value, six.p_value, six.p_value])
    assert verdicts([]) == []


ROWS = np.arange(200)
TOP, BASE = ROWS < 160, ROWS < 120


@pytest.mark.parametrize(("right", "share"), [(160, 1.0), (120, 0.0), (140, 0.5), (180, 1.5), (100, -0.5)])
def test_the_regained_share_is_its_closed_form(right: int, share: float) -> None:
    found = regained(right > ROWS, BASE, TOP, 0)
    assert found.value == pytest.approx(share)
    assert found.gap == compare(TOP, BASE, 0)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= share <= found.high
    if right in (160, 120):  # the same answers as one of the two in every draw
        assert (found.low, found.high) == pytest.approx((share, share))


def test_the_regained_interval_is_near_that_of_the_delta_method() -> None:
    random = np.random.default_rng(4)
    n = 4000
    top, base, better = (random.random(n) < p for p in (0.8, 0.6, 0.7))
    found = regained(better, base, top, 1)
    won, lost = better.astype(float) - base, top.astype(float) - base
    share = won.mean() / lost.mean()
    half = Z * (won - share * lost).std() / lost.mean() / math.sqrt(n)
    assert found.value == pytest.approx(share)
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=0.02)
    assert found == regained(better, base, top, 1)


def test_of_a_gap_inside_the_noise_nothing_is_regained() -> None:
    for top in (ROWS < 123, BASE, ROWS < 80):  # three rows, none, and a gap the other way
        found = regained(ROWS < 160, BASE, top, 0)
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.gap == compare(top, BASE, 0)


def test_a_loss_that_the_rows_exclude() -> None:
    # t(0.95, 3) = 2.353363; the standard error of 1, 2, 3, 4 is sqrt(5/12)
    lower_end = 2.5 - 2.353363 * (5 / 12) ** 0.5
    assert inferior(np.array([1.0, 2.0, 3.0, 4.0]), -lower_end) == pytest.approx(0.05)
    for rows in (1, 20, 200):
        assert inferior(np.zeros(rows), 0.1) == pytest.approx(0.9**rows), "chance of no row in so many"
    assert inferior(np.zeros(5), 2.0) == inferior(np.zeros(5), math.inf) == inferior(np.arange(5.0), math.inf) == 0.0
    assert inferior(np.full(5, -0.5), 0.1) == 1.0


@pytest.mark.parametrize(
    ("rows", "alpha", "above"), [(1, 0.9, False), (5, 0.02, False), (6, 0.02, True), (2, 0.2, False)]
)
def test_differences_that_are_all_alike_are_as_sure_as_their_number(rows: int, alpha: float, above: bool) -> None:
    assert above_zero(np.ones(rows), alpha) == above
    assert not above_zero(-np.ones(rows), alpha)
    assert not above_zero(np.zeros(rows), alpha)
