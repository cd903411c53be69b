"""The shortest prompt that loses nothing, in races with planted accuracies."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from fixtures.races import Planted

from engine import statistics
from engine.prompts import shortest
from engine.prompts.judging import of_choices
from engine.prompts.race import Race

ROWS = 40  # what everybody met before the end


def race(accuracies: list[float], tokens: list[int], budget: int = 4000, seed: int = 0) -> Race:
    made = Planted(accuracies, 300, seed, noise=0.2).race(budget)
    made.tokens = tokens
    for candidate in range(len(accuracies)):
        made.advance(candidate, ROWS)
    return made


def alike(made: Race) -> Race:
    """All answer as the first does."""
    score = made.score
    made.score = lambda prompt, rows: score(made.prompts[0], rows)
    made.scores = {candidate: made.scores[0].clone() for candidate in made.scores}
    made._standings.clear()
    return made


def chosen(made: Race, most: int = 6) -> int:
    return shortest.choose(made, list(range(len(made.prompts))), 0, most)


@pytest.mark.parametrize("seed", range(5))
def test_a_much_worse_one_is_not_worth_its_shortness(seed: int) -> None:
    assert chosen(race([0.8, 0.4, 0.35], [50, 5, 10], seed=seed)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_better_and_shorter_one_wins_and_a_longer_one_does_not(seed: int) -> None:
    assert chosen(race([0.6, 0.9, 0.95, 0.3], [50, 20, 90, 5], seed=seed)) == 1


def test_of_equals_the_shortest_wins() -> None:
    made = alike(race([0.7, 0.7, 0.7], [50, 30, 40]))
    assert shortest.pick(made, 0, 0.1, [0, 1, 2]) == 1
    assert not shortest.behind(made.standing(1), made.standing(0))


def test_that_no_loss_was_seen_is_no_proof_that_there_is_none() -> None:
    """On 40 rows that are all alike, 7.2 points may be lost at 95% confidence: 1 - 0.05 ** (1 / 40)."""
    made = alike(race([0.7, 0.7], [50, 30]))
    assert shortest.lasting(made, 1, 0)
    assert [shortest.pick(made, 0, most, [0, 1]) for most in (0.02, 0.072, 0.073)] == [0, 0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_the_margin_is_what_the_interval_leaves(seed: int) -> None:
    made = race([0.7, 0.7], [50, 30], seed=seed)
    for candidate in (0, 1):
        made.advance(candidate, 300)
    one, other = made.standing(1), made.standing(0)
    interval = scipy.stats.ttest_rel(one.shares, other.shares, alternative="greater").confidence_interval(0.95)
    assert shortest.risk(one, other, -interval.low) == pytest.approx(0.05)
    lasts = shortest.lasting(made, 1, 0)
    found = [shortest.pick(made, 0, most, [0, 1]) for most in (-interval.low - 1e-6, -interval.low + 1e-6)]
    assert found == [0, int(lasts)]


def test_the_more_are_tried_the_less_often_one_is_lucky() -> None:
    """Six that lose exactly what is allowed, on margins of unit spread: one of them passes in no more than 5% of the draws
    (where each is tried as if it were alone, in a quarter).
    """
    generator, passed, alone = np.random.default_rng(0), 0, 0
    for _ in range(300):
        start = generator.standard_normal(300)
        others = start - 0.1 + 0.5 * generator.standard_normal((6, 300))
        risks = [statistics.inferior(one - start, 0.1) for one in others]
        passed += min(statistics.holm(risks)) < 0.05
        alone += min(risks) < 0.05
    assert passed <= 0.08 * 300 < alone


def test_who_passes_alone_may_not_pass_among_others() -> None:
    """On 60 rows that are all alike, chance loses 6 points unseen with p = 0.94 ** 60 = 0.024: too much for one of three."""
    made = alike(race([0.7] * 4, [50, 30, 20, 10]))
    for candidate in range(4):
        made.advance(candidate, 60)
    assert shortest.pick(made, 0, 0.06, [0, 1]) == 1
    assert shortest.pick(made, 0, 0.06, [0, 1, 2, 3]) == 0
    assert shortest.pick(made, 0, 0.07, [0, 1, 2, 3]) == 3


def test_whoever_has_left_was_tried_all_the_same() -> None:
    made = alike(race([0.7] * 4, [50, 30, 20, 10]))
    for candidate in range(4):
        made.advance(candidate, 60)
    for candidate in (2, 3):
        made.scores[candidate] = made.scores[candidate].flip(1)
    made._standings.clear()
    assert not any(shortest.lasting(made, candidate, 0) for candidate in (2, 3))
    assert shortest.pick(made, 0, 0.06, [0, 1]) == 1
    assert shortest.pick(made, 0, 0.06, [0, 1, 2, 3]) == 0


def test_of_macro_f1_the_loss_is_its_own() -> None:
    """A start that finds half of a rare class, and a shorter one that never says it, right in as many rows."""
    gold = [0] * 90 + [1] * 10
    answers = {"start": [0] * 85 + [1] * 5 + [1] * 5 + [0] * 5, "never": [0] * 100}
    start, never = (
        of_choices("macro_f1", np.array([[1.0, 0.0] if a == 0 else [0.0, 1.0] for a in given]), gold)
        for given in answers.values()
    )
    assert start.quality - never.quality > 0.2
    assert shortest.risk(never, start, 0.02) > 0.5
    assert start.leads(never)
    assert not never.leads(start)


def test_the_margin_decides_in_the_end_of_a_race() -> None:
    winners = []
    for most in (0.0, 1.0):
        made = alike(race([0.7, 0.7], [50, 30], budget=120))
        winners.append(shortest.choose(made, [0, 1], 0, 6, max_loss=most))
    assert winners == [0, 1]


def test_nothing_shorter_leaves_the_start() -> None:
    assert chosen(race([0.6, 0.9], [50, 50])) == 0


def test_the_budget_holds_and_all_compared_met_the_same_rows() -> None:
    made = race([0.6, 0.9, 0.9, 0.9], [50, 20, 30, 40], budget=4 * ROWS + 100)
    winner = chosen(made)
    assert made.spent <= 4 * ROWS + 100
    assert made.met(winner) == made.met(0) > ROWS


@pytest.mark.parametrize("seed", range(5))
def test_places_that_get_free_go_to_the_next_shortest(seed: int) -> None:
    """Three that are short were lucky on the first rows; the fourth keeps up everywhere."""
    made = race([0.7, 0.2, 0.2, 0.2, 0.9], [50, 5, 6, 7, 20], seed=seed)
    for candidate in (1, 2, 3):
        made.scores[candidate] = made.scores[0].clone()
    assert chosen(made, most=3) == 4
    assert made.met(4) > ROWS


def test_rows_of_the_search_say_who_comes_in_and_not_who_wins() -> None:
    """On the first rows the short one is as good as the start, on the others it is not; all rows together would not tell."""
    made = race([0.8, 0.8], [50, 5])
    made.budget = made.spent + 24
    made.scores[1] = made.scores[0].clone()
    score = made.score
    made.score = lambda prompt, rows: (
        score(made.prompts[0], rows).flip(1) if prompt.name == "1" else score(prompt, rows)
    )
    assert shortest.choose(made, [0, 1], 0, 6, first=ROWS) == 0
    assert made.first == ROWS
    assert len(made.standing(0).correct) == made.met(0) - ROWS


@pytest.mark.parametrize("examples", [0, 1, 3, 7, 12, 100])
def test_how_far_a_group_gets(examples: int) -> None:
    made = Planted([0.5, 0.5, 0.5], 30).race(1000)
    for candidate, rows in enumerate((4, 2, 7)):
        made.advance(candidate, rows)
    found = made.reach([0, 1, 2], examples)
    cost = [sum(max(0, rows - met) for met in (4, 2, 7)) for rows in (found, found + 1)]
    assert cost[0] <= examples
    assert cost[1] > examples or found == 30
