"""Who is ahead of the start by more than chance easily gives."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.races import Planted

from engine.prompts import adjust
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


def test_rows_that_one_alone_has_met_do_not_count() -> None:
    met = [True, False] * 10
    assert not standing(met + [True] * 30).leads(standing(met))
    assert not standing(met).leads(standing(met))


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
    assert adjust.best(race, 3, range(5)) == 3
    race = Planted([0.6, 0.62, 0.8], 400, seed).race(4000)
    for candidate in range(3):
        race.advance(candidate, 400)
    assert adjust.best(race, 0, range(3)) == 2
