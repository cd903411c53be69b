"""Who is ahead of the start by more than chance easily gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.races import Planted

from engine import statistics
from engine.prompts.judging import ACCURACY, Standing, of_answers, of_choices


def standing(right: list[bool]) -> Standing:
    """All rows are answered as surely, rightly or wrongly."""
    return of_choices(ACCURACY, np.array([[1.0, 0.0] if r else [0.0, 1.0] for r in right]), [0] * len(right))


@pytest.mark.parametrize(("won", "lost", "ahead"), [(6, 2, True), (5, 4, False), (4, 4, False), (2, 6, False)])
def test_a_lead_is_more_than_a_standard_error(won: int, lost: int, ahead: bool) -> None:
    """Of discordant rows the lead is won - lost and its standard error about the root of their number."""
    both = [True] * 10
    one, other = both + [True] * won + [False] * lost, both + [False] * won + [True] * lost
    assert standing(one).leads(standing(other)) == ahead


@pytest.mark.parametrize("margins", [(2.0, 1.5), (1.9, 1.5), (2.3, 1.6), (0.6, 0.3)])
def test_who_is_surer_by_far_leads_however_sure_both_are(margins: tuple[float, float]) -> None:
    """Planted margins of unit spread around these means."""
    noise = np.random.default_rng(0).standard_normal(400)
    one, other = (of_choices(ACCURACY, np.stack([mean + noise, 0 * noise], 1), [0] * 400) for mean in margins)
    assert one.skill > other.skill
    assert one.leads(other)
    assert not other.leads(one)
    assert one.shares.mean() - other.shares.mean() == pytest.approx(one.skill - other.skill)


def test_margins_that_differ_by_rounding_are_all_alike() -> None:
    """Divided by their spread of rounding they were of the order of 1e15."""
    margins = np.full(8, 2.0)
    margins[3] = np.nextafter(2.0, 3.0)
    found = of_choices(ACCURACY, np.stack([margins, 0 * margins], 1), [0] * 8)
    assert found.margin == pytest.approx(2.0)


def test_what_both_get_right_is_no_evidence() -> None:
    references = [["a"]] * 6
    one, other = (of_answers("exact_match", ["a"] * n + ["b"] * (6 - n), references) for n in (5, 4))
    assert list(one.shares - other.shares) == [0, 0, 0, 0, 1, 0]


def test_rows_that_one_alone_has_met_do_not_count() -> None:
    race = Planted([0.6, 0.6], 400, noise=0.0).race(4000)
    for candidate, rows in enumerate((100, 400)):
        race.advance(candidate, rows)
    surely = [[10.0 if choice == row.gold else 0.0 for choice in range(2)] for row in race.rows]
    race.scores[1] = torch.tensor(surely, dtype=torch.float64)
    race.scores[1][:100] = race.scores[0]
    for row, better in enumerate((0.02, -0.01)):
        race.scores[1][row, race.rows[row].gold] += better
    assert race.ranked(range(2)) == [1, 0]
    assert race.best(0, range(2)) == 0
    assert not standing([True, False]).leads(standing([True, False]))


def test_a_single_row_is_no_lead() -> None:
    """Nor are two: by chance they are alike, and of this sign, in one of four cases."""
    for rows, ahead in ((1, False), (2, False), (3, True)):
        assert standing([True] * rows).leads(standing([False] * rows)) == ahead
    assert not statistics.above_zero(np.array([0.5]), 0.4)


def test_of_free_answers_the_figure_leads() -> None:
    references = [["a b"], ["c d"], ["e f"], ["g h"]]
    good, bad = (of_answers("chrf", texts, references) for texts in (["a b", "c d", "e f", "g"], ["x", "c", "y", "h"]))
    assert good.leads(bad)
    assert not bad.leads(good)


@pytest.mark.parametrize("seed", range(4))
def test_the_start_gives_way_to_who_is_better_and_not_to_who_is_lucky(seed: int) -> None:
    race = Planted([0.6, 0.6, 0.6, 0.6, 0.6], 400, seed, noise=0.0).race(4000)
    for candidate in range(5):
        race.advance(candidate, 400)
    race.scores = dict.fromkeys(range(5), race.scores[0])
    assert race.best(3, range(5)) == 3
    race = Planted([0.6, 0.62, 0.8], 400, seed).race(4000)
    for candidate in range(3):
        race.advance(candidate, 400)
    assert race.best(0, range(3)) == 2
