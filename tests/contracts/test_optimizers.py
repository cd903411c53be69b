"""Laws of every registered prompt optimizer: the budget holds, and the best of a planted pool is found."""

from __future__ import annotations

from collections import Counter

import pytest
from fixtures.races import Planted
from hypothesis import given
from hypothesis import strategies as st

from engine.registry import OPTIMIZERS

NAMES = OPTIMIZERS.names()


def choose(name: str, planted: Planted, budget: int, kind: str = "none") -> tuple[int, int]:
    """(winner, spent)."""
    race = planted.race(budget, kind)
    winner: int = OPTIMIZERS.load(name).choose(race)
    return winner, race.spent


@pytest.mark.parametrize("name", NAMES)
@given(
    accuracies=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=12), rows=st.integers(1, 60), extra=st.integers(0, 300),
    kind=st.sampled_from(["none", "batch", "contextual", "domain"]),
)  # fmt: skip
def test_the_budget_holds_and_everyone_meets_a_row(
    name: str, accuracies: list[float], rows: int, extra: int, kind: str
) -> None:
    planted = Planted(accuracies, rows)
    budget = len(accuracies) + extra
    winner, spent = choose(name, planted, budget, kind)
    assert 0 <= winner < len(accuracies)
    assert spent == len(planted.asked) <= budget
    assert max(Counter(planted.asked).values()) == 1, "no row is paid for twice"
    met = Counter(candidate for candidate, _ in planted.asked)
    assert met.keys() == set(range(len(accuracies)))
    for candidate, count in met.items():  # common random numbers: the same rows, in the same order
        assert [row for c, row in planted.asked if c == candidate] == list(range(count))
    assert met[winner] == max(met.values())
    assert {candidate for candidate, _, _ in planted.told} == met.keys()
    assert [alive for candidate, _, alive in planted.told if candidate == winner][-1]


@pytest.mark.parametrize("kind", ["none", "batch"])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", NAMES)
def test_the_best_of_a_planted_pool_is_found(name: str, seed: int, kind: str) -> None:
    accuracies = [0.5, 0.62, 0.55, 0.9, 0.45, 0.6, 0.58, 0.5, 0.65, 0.4, 0.3, 0.61]
    assert choose(name, Planted(accuracies, 300, seed, noise=0.2), 1200, kind)[0] == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_same_race_has_the_same_winner(name: str) -> None:
    accuracies = [0.5, 0.52, 0.51, 0.53]
    assert choose(name, Planted(accuracies), 90) == choose(name, Planted(accuracies), 90)


@pytest.mark.parametrize("name", NAMES)
def test_among_equals_the_first_wins(name: str) -> None:
    assert choose(name, Planted([0.6] * 5), 100)[0] == 0
