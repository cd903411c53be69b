"""Self-rewriting: what the local model is shown, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.prompting import Scripted, planted, setting, standing, with_writer

from engine.prompts.adjusters import rewrite
from engine.prompts.adjusters.capo import Donors
from engine.prompts.adjusting import Setting
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
    rewritten = [p for p in first if p.instruction != at.start.instruction]
    assert len(rewritten) == len(asked)
    assert all(p.demonstrations == at.start.demonstrations for p in rewritten)
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
    at = writing(writer, max_demonstrations=0)
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


def answered_wrongly(prompt: Prompt, at: Setting) -> set[str]:
    """Of all training rows."""
    rows = at.task.train
    scores_RC = at.scorer.score(prompt, rows, 2)
    return {row.text for row, guess in zip(rows, scores_RC.argmax(1).tolist(), strict=True) if guess != row.gold}


@pytest.mark.parametrize("shown", [0, 2, 4])
def test_mistakes_are_shown_and_take_the_place_of_others_where_the_prompt_is_full(shown: int) -> None:
    at = writing(Scripted([""]), demonstrations=shown, max_demonstrations=4)
    wrong = answered_wrongly(at.start, at) - {row.text for row in at.start.demonstrations}
    assert wrong
    adjuster = rewrite.adjust(at)
    next(adjuster)
    asked = adjuster.send([wrong_at([0])])
    assert len(asked) == rewrite.SHOWN
    for prompt in asked:
        new = {row.text for row in prompt.demonstrations} - {row.text for row in at.start.demonstrations}
        assert new
        assert new <= wrong
        assert len({row.text for row in prompt.demonstrations}) == len(prompt.demonstrations) <= 4
        assert all(row in at.task.train for row in prompt.demonstrations)
        assert prompt.instruction == at.start.instruction


def test_what_a_better_one_shows_stays_when_it_is_rewritten() -> None:
    at = writing(Scripted(["", "", "", "", "", "", "", "", CLEAR]), max_demonstrations=2)
    adjuster = rewrite.adjust(at)
    next(adjuster)
    asked = adjuster.send([wrong_at([0])])
    better = asked[0].demonstrations
    (rewritten,) = [
        p
        for p in adjuster.send([wrong_at([], 0.9), *[wrong_at([1], 0.1)] * (len(asked) - 1)])
        if p.instruction == CLEAR
    ]
    assert rewritten.demonstrations == better


def test_of_answers_neither_right_nor_wrong_the_worse_half_is_shown() -> None:
    at = setting(2, method="rewrite")
    graded = replace(at, task=replace(at.task, metric="nll"))
    found = rewrite.missed(at.start, Donors.of(graded), graded)
    rest = [row for row in at.task.train if row not in found]
    right = [
        [
            float(scores[row.gold])
            for scores, row in zip(at.scorer.score(at.start, rows, 2).log_softmax(1), rows, strict=True)
        ]
        for rows in (found, rest)
    ]
    assert max(right[0]) <= min(right[1])
