"""The race itself: figures, order, and halving against meeting every row."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from fixtures.races import Planted
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts import answers
from engine.prompts.judging import ACCURACY, SETTLED, of_choices
from engine.prompts.optimizers import exhaustive, halving


def test_standing_in_numbers() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.6, 0.3]], dtype=torch.float64)
    found = of_choices(ACCURACY, probabilities.log().numpy(), [0, 0, 2])
    assert found.quality == pytest.approx(1 / 3)
    assert found.correct.tolist() == [True, False, False]
    raw = np.log([0.7 / 0.2, 0.3 / 0.4, 0.3 / 0.6])
    np.testing.assert_allclose(found.margins, raw / raw.std())
    assert found.margin == pytest.approx(raw.mean() / raw.std())
    assert found.skill == pytest.approx((3 * (1 / 3) + SETTLED * NormalDist().cdf(found.margin)) / (3 + SETTLED))


def test_a_sharper_prompt_with_the_same_answers_is_not_better() -> None:
    scores = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    gold = scores.argmax(1).roll(1).tolist()
    mild, sharp = (of_choices(ACCURACY, s.numpy(), gold) for s in (scores, (3 * scores).log_softmax(1)))
    assert mild.skill == pytest.approx(sharp.skill)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_meeting_rows_bit_by_bit_is_meeting_them_at_once(steps: list[int]) -> None:
    bit_by_bit, at_once = Planted([0.6]).race(1000, "batch"), Planted([0.6]).race(1000, "batch")
    for rows in np.cumsum(steps):
        found = bit_by_bit.advance(0, int(rows))
    expected = at_once.advance(0, sum(steps))
    assert (found.quality, found.margin) == pytest.approx((expected.quality, expected.margin))
    assert bit_by_bit.spent == at_once.spent == min(200, sum(steps))
    assert bit_by_bit.met(0) == bit_by_bit.spent


def test_the_budget_ends_a_row_early() -> None:
    race = Planted([0.6, 0.7]).race(15)
    race.advance(0, 10)
    race.advance(1, 10)
    assert (race.met(0), race.met(1), race.spent) == (10, 5, 15)


def test_rank_is_by_skill_then_length() -> None:
    race = Planted([0.5, 0.8, 0.8, 0.3]).race(1000)
    race.tokens = [5, 9, 4, 1]
    for candidate in range(4):
        race.advance(candidate, 200)
    assert race.ranked(range(4)) == [2, 1, 0, 3]


def test_rank_is_by_the_rows_that_all_have_met() -> None:
    """Of equal prompts, one is lucky on its few rows: the other does as well there and worse on what it met beside."""
    race = Planted([0.5, 0.5]).race(1000)
    race.tokens = [4, 9]
    race.advance(0, 200)
    lucky = next(n for n in range(5, 60) if race.standing(0, n).skill > race.standing(0).skill)
    race.advance(1, lucky)
    assert race.standing(1).skill > race.standing(0).skill
    assert race.ranked([1, 0]) == [0, 1]


def test_a_standing_is_worked_out_once_until_more_rows_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    race, judged = Planted([0.5, 0.7]).race(1000), list[int]()
    of_rows = answers.judged
    monkeypatch.setattr(answers, "judged", lambda *about: judged.append(len(about[-1])) or of_rows(*about))
    for rows in (10, 20):
        race.together([0, 1], 20)
        assert race.ranked([0, 1]) == race.ranked([1, 0])
        race.tell(1, 1, True)
        assert race.standing(1).rows == rows
    race.first = 5
    assert [race.standing(1).rows, race.standing(1).rows] == [15, 15]
    assert judged == [10, 10, 20, 20, 15]


@pytest.mark.parametrize("seed", range(5))
def test_with_budget_for_all_both_find_what_the_most_rows_say(seed: int) -> None:
    accuracies = [0.4, 0.75, 0.6, 0.55, 0.72, 0.5]
    whole = Planted(accuracies, 150, seed).race(6 * 150)
    reference = exhaustive.choose(whole)
    assert all(whole.met(candidate) == 150 for candidate in range(6))
    assert reference == whole.ranked(range(6))[0] == 1
    assert halving.choose(Planted(accuracies, 150, seed).race(6 * 150)) == reference


def test_halving_spends_on_the_good_ones() -> None:
    race = Planted([0.2 + 0.05 * i for i in range(14)], 400, noise=0.3).race(1400)
    winner = halving.choose(race)
    met = [race.met(candidate) for candidate in range(14)]
    assert winner == 13
    assert met[winner] > 2 * 1400 / 14 > met[0]
    assert race.spent > 700, "the budget is used"


def test_a_candidate_that_is_clearly_behind_is_dropped_early() -> None:
    planted = Planted([0.9, 0.1, 0.9, 0.12, 0.11, 0.1, 0.13, 0.12], 200, noise=0.3)
    race = planted.race(400)
    halving.choose(race)
    assert race.left < 2, "the two that are left share what six others did not need"
    first_round = {candidate: alive for candidate, number, alive in planted.told if number == 1}
    assert {candidate for candidate, alive in first_round.items() if alive} == {0, 2}


@pytest.mark.parametrize("budget", [160, 400, 800, 1200, 1500])
def test_halving_spends_its_budget_when_nobody_is_clearly_behind(budget: int) -> None:
    """200 rows for each of eight: the last two cannot spend their share of a large budget, and the rounds before them do."""
    race = Planted([0.6] * 8, 200, noise=0.5).race(budget)
    halving.choose(race)
    assert race.left < 4


@pytest.mark.parametrize("count", [16, 50, 100])
def test_nobody_goes_before_a_block_of_rows(count: int) -> None:
    planted = Planted([0.5] * (count - 1) + [0.9], 200)
    race = planted.race(8 * count)
    assert halving.choose(race) == count - 1
    assert {race.met(candidate) for candidate in range(count)} == {8}
    assert race.spent == 8 * count


@pytest.mark.parametrize("kind", ["none", "batch"])
def test_rows_of_a_search_calibrate_but_do_not_count(kind: str) -> None:
    race = Planted([0.6, 0.8], noise=0.2).race(1000, kind)
    for candidate in (0, 1):
        race.advance(candidate, 60)
    offsets, whole = race.offsets(0, kind), race.standing(0)
    race.first = 20
    found = race.standing(0)
    assert torch.equal(race.offsets(0, kind), offsets)
    assert found.correct.tolist() == whole.correct[20:].tolist()
    assert found.quality == pytest.approx(whole.correct[20:].mean())


def test_halving_behind_a_search_gives_everybody_a_row_that_counts() -> None:
    race = Planted([0.5, 0.6, 0.7, 0.8]).race(4 * 20 + 4)
    for candidate in range(4):
        race.advance(candidate, 20)
    race.first = 20
    winner = halving.halve(race, [0, 1, 2, 3])
    assert race.met(winner) > 20
    assert all(race.met(candidate) == 21 for candidate in range(4))
