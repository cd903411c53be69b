"""Instructions for a pool from what the local model answers: what serves, what is dropped and why, where it came from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.prompting import at_work, toy

from engine import events as ev
from engine import foreseen, preflight
from engine.errors import UsageError
from engine.prompts import pool, select, written
from engine.prompts.cache import ScoreCache
from engine.prompts.contest import Contest
from engine.prompts.options import SelectPromptOptions
from engine.prompts.requests import Answer
from engine.prompts.writer import BATCH, Writer


class Scripted(Writer):
    """Gives the answers in order; a word is a token."""

    def __init__(self, *answers: Answer | str) -> None:
        self.answers = [a if isinstance(a, Answer) else Answer(a, ended=True) for a in answers]
        self.asked: list[str] = []

    def write(self, requests: Sequence[str], tokens: int) -> list[Answer]:
        self.asked += requests
        return self.answers[: len(requests)]

    def length(self, text: str) -> int:
        return len(text.split())


def options(**changes: Any) -> SelectPromptOptions:
    return SelectPromptOptions.model_validate(
        {"use": "select_prompt", "task": "toy", "budget": 80, "test_rows": 10, **changes}
    )


def test_flaws_are_counted_by_kind_and_the_rest_says_where_it_came_from() -> None:
    writer = Scripted(
        "Decide whether it holds.", "", "Rewrite the prompt.",
        "Here is the new instruction: Answer {text} now.", Answer("Say it with", ended=False),
        "Say if it is so.", "Is it so?", "one two three four five six seven", "Decide whether it holds.",
    )  # fmt: skip
    chosen = options(candidates=["Is it so?", "Really?"], rewrites=4, induction=5, written_tokens=6)
    found = written.write(toy(), chosen, writer, 0)
    assert [(i.text, i.origin) for i in found.instructions] == [
        ("Decide whether it holds.", "other words for 'Is it so?'"),
        ("Say if it is so.", "induced from 4 examples"),
    ]
    assert found.dropped == {
        "empty": 1, "about the request": 1, "with fields in braces": 1, "cut off": 1, "longer than 6 tokens": 1, "repeated": 2,
    }  # fmt: skip
    assert str(found).startswith("the model wrote 9 instructions: 2 kept, 1 empty")
    assert ["Really?" in asked for asked in writer.asked[:4]] == [False, True, False, True]
    assert all("Statement:" in asked for asked in writer.asked[4:])


def test_a_description_is_rewritten_where_nothing_is_given() -> None:
    writer = Scripted("Tell if the statement holds.")
    found = written.write(toy(), options(rewrites=1), writer, 0)
    assert toy().description in writer.asked[0]
    assert len(found.instructions) == 1


def test_inductions_show_different_rows_of_both_classes() -> None:
    asks = written.inductions(toy(), 6, random.Random(0))
    assert len({request for request, _ in asks}) > 1
    assert all(request.count("Answer: no") == request.count("Answer: yes") == 2 for request, _ in asks)


def test_what_is_written_stands_in_the_pool_with_all_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Scripted("Decide whether it holds.", "no {text}", "Say yes if so.")
    monkeypatch.setattr(Contest, "writer", lambda contest: answers)
    step, told = options(rewrites=2, induction=1, demonstrations=[0, 2]), list[ev.Event]()
    select.run(at_work(tmp_path / "run", step, told), step)
    origins = [event.origin for event in told if isinstance(event, ev.CandidateAdded)]
    assert len(origins) == 2 * 3
    assert "induced from 4 examples, 2 demonstrations, draw 0" in origins
    assert any("3 instructions: 2 kept, 1 with fields in braces" in e.message for e in told if isinstance(e, ev.Log))


def test_the_model_itself_writes_and_a_repeated_step_finds_the_same_pool(tmp_path: Path) -> None:
    step, pools = options(rewrites=3, induction=3), []
    for name in ("one", "two"):
        told = list[ev.Event]()
        select.run(at_work(tmp_path / name, step, told), step)
        assert any("the model wrote 6 instructions: 0 kept" in e.message for e in told if isinstance(e, ev.Log))
        warned = [e.message for e in told if isinstance(e, ev.Log) and e.level == "warning"]
        assert any("plain prompt alone" in message and "wrote nothing" in message for message in warned)
        pools.append([event.text for event in told if isinstance(event, ev.CandidateAdded)])
    assert pools[0] == pools[1]


def test_a_request_that_fills_several_batches_is_answered_anew_in_each() -> None:
    answers = Writer(subject("llama"), ScoreCache(), 0).write(["Say yes or no."] * 2 * BATCH, 8)
    assert answers[:BATCH] != answers[BATCH:]


@pytest.mark.parametrize(
    ("changes", "task", "where", "message"),
    [
        ({"rewrites": 1}, replace(toy(), description=""), "step.0.rewrites", "no instruction to rewrite"),
        ({"induction": 1}, replace(toy(), train=[]), "task toy", "no training rows to induce"),
        ({"induction": 9, "budget": 9}, toy(), "step.0.budget", "9 examples for 10 prompts"),
    ],
)
def test_what_cannot_be_written_or_met_is_refused_before_the_run(
    changes: dict[str, Any], task: Any, where: str, message: str, tmp_path: Path
) -> None:
    step = options(**changes)
    with pytest.raises(UsageError, match=message) as refused:
        preflight.check_prompts(foreseen.steps(at_work(tmp_path / "run", step, task=task), []))
    assert refused.value.where == where


def test_stand_ins_are_as_many_as_may_be_written() -> None:
    chosen = options(rewrites=2, induction=3, demonstrations=[0, 2], written_tokens=7)
    assert len(pool.build(toy(), chosen, 0, written=pool.awaited(chosen))) == 2 * (1 + 5)
