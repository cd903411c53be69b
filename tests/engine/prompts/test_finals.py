"""What is told of the finalists: several are compared at once, and a verdict must hold among them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.prompting import at_work, toy
from fixtures.races import Planted

from engine import events as ev
from engine.prompts.confirming import Confirming
from engine.prompts.finals import Finals
from engine.prompts.judging import ACCURACY, Standing, of_choices
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer

STEP = SelectPromptOptions(use="select_prompt", task="toy")
ROWS = 60


def standing(right: int) -> Standing:
    """So many of the rows are answered rightly, the first ones."""
    return of_choices(ACCURACY, np.array([[1.0, 0.0] if i < right else [0.0, 1.0] for i in range(ROWS)]), [0] * ROWS)


def told(folder: Path, rights: list[int]) -> dict[str, ev.PromptsCompared]:
    """Of the last of finalists with so many right answers each, by the other's name."""
    heard: list[ev.Event] = []
    made = at_work(folder, STEP, heard)
    race = Planted([0.5] * len(rights)).race(10)
    finals = Finals(made, STEP, toy(), race, list(range(len(rights))))
    finals._tell([standing(right) for right in rights], "none", Confirming(finals, Scorer(made.subject), "pruned"))
    return {event.b: event for event in heard if isinstance(event, ev.PromptsCompared)}


def test_what_is_better_alone_may_be_chance_among_several(tmp_path: Path) -> None:
    """Six rows of difference: p = 1/32 alone (exact McNemar), and Holm's is 2/32 beside one that is no different."""
    (alone,) = told(tmp_path / "alone", [40, 46]).values()
    assert (alone.p_value, alone.p_holm, alone.verdict) == (pytest.approx(1 / 32), pytest.approx(1 / 32), "better")
    found = told(tmp_path / "both", [40, 46, 46])
    assert (found["0"].p_value, found["0"].p_holm) == (pytest.approx(1 / 32), pytest.approx(2 / 32))
    assert found["0"].low > 0, "the interval alone would call it better"
    assert {name: event.verdict for name, event in found.items()} == {"0": "tie", "1": "tie"}


def test_what_holds_among_several_is_better(tmp_path: Path) -> None:
    found = told(tmp_path / "run", [20, 40, 46])
    assert {name: event.verdict for name, event in found.items()} == {"0": "better", "1": "better"}
    assert found["1"].p_holm == pytest.approx(1 / 32), "the larger of two p-values is not multiplied"
