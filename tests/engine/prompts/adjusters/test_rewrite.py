"""Self-rewriting: what the local model is shown, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.prompting import Scripted, planted, setting, standing, with_writer

from engine.data.tasks import Generation
from engine.prompts import calibration
from engine.prompts.adjusters import rewrite
from engine.prompts.adjusting import Setting
from engine.prompts.donors import Donors
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
    kinds = [sum(words in request for request in asked) for words in ("What was the instruction?", "other words")]
    assert kinds == [rewrite.FIRST // 2] * 2
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
    assert rewrite.SHOWN // 2 <= len(asked) <= rewrite.SHOWN, "those drawn twice are asked once"
    for prompt in asked:
        new = {row.text for row in prompt.demonstrations} - {row.text for row in at.start.demonstrations}
        assert new
        assert new <= wrong
        assert len({row.text for row in prompt.demonstrations}) == len(prompt.demonstrations) <= 4
        assert all(row in at.task.train for row in prompt.demonstrations)
        assert prompt.instruction == at.start.instruction


def test_what_a_better_one_shows_stays_when_it_is_rewritten() -> None:
    at = writing(Scripted([""] * rewrite.FIRST + [CLEAR]), max_demonstrations=2)
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


@pytest.mark.parametrize("shown", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_mistakes_are_all_there_is_to_show(count: int, shown: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at = writing(Scripted([""]), demonstrations=shown, max_demonstrations=5)
    mistakes = at.task.train[shown : shown + count]
    monkeypatch.setattr(rewrite, "missed", lambda *_: mistakes)
    for seed in range(10):
        at.generator.seed(seed)
        asked = rewrite.corrected(at.start, Donors.of(at), at)
        assert len(asked) == rewrite.SHOWN
        for prompt in asked:
            new = [row for row in prompt.demonstrations if row not in at.start.demonstrations]
            assert 1 <= len(new) <= min(count, 5)
            assert all(row in mistakes for row in new)


@pytest.mark.parametrize("shown", [0, 2])
def test_where_none_may_be_shown_what_the_start_shows_stays(shown: int) -> None:
    at = writing(Scripted([CLEAR]), demonstrations=shown, max_demonstrations=0)
    adjuster = rewrite.adjust(at)
    next(adjuster)
    (rewritten,) = adjuster.send([wrong_at([0])])
    assert rewritten.demonstrations == at.start.demonstrations
    assert at.scorer.computed == 0


def test_an_instruction_is_told_with_the_best_that_it_reached() -> None:
    at = writing(Scripted([""]))
    one, other = replace(at.start, instruction="Say yes."), replace(at.start, instruction="Say no.")
    better = replace(one, demonstrations=tuple(at.task.train[:2]))
    scored = [(better, wrong_at([0], 0.9)), (other, wrong_at([0], 0.6)), (one, wrong_at([0], 0.2))]
    request = next(text for text, _ in rewrite.again(scored, at) if "better" in text and "%" in text)
    lines = [line for line in request.splitlines() if "% right" in line]
    assert [line.partition(": ")[2] for line in lines] == ["Say no.", "Say yes."]


def test_of_graded_answers_the_worse_half_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    at = setting(2, method="rewrite")
    graded = replace(at, task=replace(at.task, metric="token_f1", generation=Generation(4, "")))
    said = {row.text: row.choices[row.gold] if index % 3 else "maybe" for index, row in enumerate(at.task.train)}
    monkeypatch.setattr(rewrite.answers, "asked", lambda scorer, task, prompt, rows: tuple(said[r.text] for r in rows))
    found = rewrite.missed(at.start, Donors.of(graded), graded)
    bad = [row for row in Donors.of(graded).rows if said[row.text] == "maybe"]
    assert bad
    assert all(row in found for row in bad)
    assert len(found) == -(-len(Donors.of(graded).rows) // 2)


@pytest.mark.parametrize("kind", ["none", "contextual", "domain", "batch"])
def test_mistakes_are_those_of_the_calibrated_answers(kind: str) -> None:
    at = setting(2, method="rewrite", calibration=kind)
    donors = Donors.of(at)
    found = rewrite.missed(at.start, donors, at)
    scores_RC = at.scorer.score(at.start, donors.rows, 2)
    inputs = calibration.meaningless(kind, at.task.dev, 2)
    assert bool(inputs) == (kind in ("contextual", "domain"))
    answered_RC = calibration.apply(scores_RC, calibration.fitted(kind, at.scorer, at.start, scores_RC, inputs))
    expected = [
        row for row, guess in zip(donors.rows, answered_RC.argmax(1).tolist(), strict=True) if guess != row.gold
    ]
    assert len(donors.rows) >= rewrite.FEW
    assert sorted(row.text for row in found) == sorted(row.text for row in expected)


def test_training_rows_may_have_more_choices_than_the_others() -> None:
    at = setting(2, method="rewrite")
    wide = [replace(row, choices=(*row.choices, " maybe")) for row in at.task.train]
    mixed = replace(at, task=replace(at.task, labels={}, train=wide))
    found = rewrite.missed(at.start, Donors.of(mixed), mixed)
    scores_RC = at.scorer.score(at.start, wide, 3)
    expected = {row.text for row, guess in zip(wide, scores_RC.argmax(1).tolist(), strict=True) if guess != row.gold}
    assert {row.text for row in found} == expected & {row.text for row in Donors.of(mixed).rows}


def test_mistakes_are_those_of_one_of_the_best_few_the_better_ones_more_often() -> None:
    at = setting(2, method="rewrite")
    scored = [(replace(at.start, name=str(place)), wrong_at([0])) for place in range(rewrite.BEAM + 3)]
    names = [rewrite.drawn(scored, at).name for _ in range(400)]
    counts = [names.count(str(place)) for place in range(rewrite.BEAM)]
    assert sum(counts) == len(names)
    assert counts == sorted(counts, reverse=True)
    assert rewrite.drawn(scored[:1], at).name == "0"


def test_each_is_asked_once_and_mistakes_of_several_of_the_best_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    at = writing(Scripted([""]))
    corrected, made = list[Prompt](), 0

    def twice(prompt: Prompt, donors: Donors, setting: Setting) -> list[Prompt]:
        nonlocal made
        made += 1
        corrected.append(prompt)
        return [replace(prompt, instruction=f"Candidate {made}.")] * 2

    monkeypatch.setattr(rewrite, "corrected", twice)
    adjuster = rewrite.adjust(at)
    asked = next(adjuster)
    for number in range(rewrite.PATIENCE):
        asked = adjuster.send([wrong_at([0], 0.9 - 0.01 * number)])
        assert len(asked) == 1
    assert at.start in corrected
    assert {prompt.instruction for prompt in corrected} & {f"Candidate {n}." for n in range(1, rewrite.BEAM)}
