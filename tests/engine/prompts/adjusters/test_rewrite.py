"""Self-rewriting: what the local model is shown, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fixtures.prompting import Scripted, planted, setting, standing, with_writer

from engine.prompts.adjusters import rewrite
from engine.prompts.judging import Standing
from engine.prompts.template import Prompt

CLEAR = "Answer with yes if the statement is true."


def writing(writer: Scripted, **changes: Any) -> Any:
    return with_writer(writer, setting(3, method="rewrite", **changes))


def wrong_at(rows: Sequence[int], skill: float = 0.5) -> Standing:
    correct = np.ones(16, dtype=bool)
    correct[list(rows)] = False
    return standing(correct, np.where(correct, 1.0, -1.0), (skill + 0.5) / 2)


def test_it_begins_with_induction_and_paraphrases_and_then_shows_errors() -> None:
    writer = Scripted([f"Say whether statement {i} is true." for i in range(50)])
    at = writing(writer, demonstrations=2)
    adjuster = rewrite.adjust(at)
    assert next(adjuster) == [at.start]
    first = adjuster.send([wrong_at([2, 5])])
    asked = list(writer.requests)
    assert sum("What was the instruction?" in r for r in asked) == sum("other words" in r for r in asked) == 4
    assert any(row.text in asked[0] for row in at.task.train)
    assert all(p.demonstrations == at.start.demonstrations for p in first)
    adjuster.send([wrong_at([1, 9], 0.4 + 0.01 * i) for i in range(len(first))])
    corrections = [r for r in writer.requests[len(asked) :] if "answered wrongly" in r]
    assert corrections
    for request in corrections:  # the start is still the best: its two errors are shown, and nothing that it got right
        assert at.start.instruction in request
        for index in (2, 5):
            row = at.rows[index]
            assert f"{row.text}\nAnswer:{row.choices[row.gold]}" in request
        assert f"Statement: {at.rows[1].text}\n" not in request


def test_it_goes_on_from_a_better_one_and_ends_without() -> None:
    writer = Scripted([CLEAR, "", "Yes"])
    at = writing(writer)
    adjuster = rewrite.adjust(at)
    next(adjuster)
    (better,) = adjuster.send([wrong_at([0])])
    assert better.instruction == CLEAR
    rounds = 0
    try:
        adjuster.send([wrong_at([3], 0.9)])
    except StopIteration:
        rounds += 1
    assert rounds == 1, "nothing new is written: it ends"
    assert any(CLEAR in request and "answered wrongly" in request for request in writer.requests)


def test_when_all_is_right_the_least_certain_rows_are_shown() -> None:
    at = setting(1, method="rewrite")
    figures = planted(Prompt("p", "x"))
    sure = replace(figures, correct=np.ones(16, dtype=bool), margins=np.arange(16.0))
    assert all(row in at.rows[: 2 * rewrite.EXAMPLES] for row in rewrite.mistaken(sure, at))
