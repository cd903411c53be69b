"""What adjusters need beside scoring: something, more for more prompts, and for every registered one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import at_work, options, toy
from fixtures.sizes import SIZES

from engine.estimate import parts, proposing, steps
from engine.estimate.needs import Needs
from engine.estimate.scene import Scene
from engine.prompts.adjusters import gcg
from engine.registry import ADJUSTERS


def needs(folder: Path, **changes: Any) -> Needs:
    return steps.adjust_prompt(Scene(at_work(folder), SIZES), options(**changes))


@pytest.mark.parametrize("name", ADJUSTERS.names())
def test_a_larger_budget_takes_longer(name: str, tmp_path: Path) -> None:
    some, more = (needs(tmp_path / str(b), method=name, budget=b, rows=8) for b in (400, 1200))
    assert 0 < some.work.calls < more.work.calls
    assert 0 < some.work.products["float32"] < more.work.products["float32"]


def test_tokens_and_minutes_are_estimated_too(tmp_path: Path) -> None:
    """Tokens are as many examples as the start's length makes of them, minutes take themselves."""
    some, more = (needs(tmp_path / name, budget=f"{name} tokens", rows=8) for name in ("5k", "15k"))
    assert 0 < some.work.calls < more.work.calls
    short, long = (needs(tmp_path / name, budget=f"{name} minutes", rows=8) for name in ("1", "20"))
    assert (short.work.fixed, long.work.fixed) == (60, 1200)
    assert long.work.products == short.work.products
    assert long.memory == short.memory > 0


def test_a_gradient_keeps_activations_and_demonstrations_cost_capo(tmp_path: Path) -> None:
    made = {name: needs(tmp_path / name, method=name) for name in ("grips", "gcg", "capo", "shorten")}
    assert made["gcg"].memory > 2 * made["shorten"].memory
    assert made["capo"].work.products["float32"] > made["grips"].work.products["float32"]
    fewer = needs(tmp_path / "fewer", method="capo", max_demonstrations=1)
    assert fewer.work.products["float32"] < made["capo"].work.products["float32"]


def test_a_question_with_a_sequence_a_choice_keeps_the_activations_of_them_all() -> None:
    """The instruction's 900 tokens stand in each of a question's sequences, and a question is never parted."""
    few = replace(SIZES, vocabulary=500)  # so that no predictions need more
    one, four = (proposing.differentiating(few, 900, 100, sequences, 8) for sequences in (1, 4))
    assert four.memory / one.memory == pytest.approx((4 * 900 + 100) / (900 + 100), rel=0.05)
    tokens = 2 * gcg.ROWS * 3 * 900  # more in two rounds, each for a forward and as many products behind it
    more = 2 * parts.forward(few, tokens, 900, "float32", 2 * gcg.ROWS * 3).products["float32"]
    assert four.work.products["float32"] - one.work.products["float32"] == pytest.approx(more, rel=0.02)


def test_choices_of_several_tokens_are_sequences_of_their_own(tmp_path: Path) -> None:
    task = toy()
    longer = replace(task, train=[replace(row, choices=(" not at all", " yes indeed")) for row in task.train])
    instruction = "Read the statement with care. " * 60
    memory, few = {}, replace(SIZES, vocabulary=500)
    for name, used in (("one", task), ("several", longer)):
        made = at_work(tmp_path / name, task=used)
        memory[name] = steps.adjust_prompt(Scene(made, few), options(method="gcg", instruction=instruction)).memory
    assert memory["several"] > 1.5 * memory["one"]


def test_the_table_names_adjusters() -> None:
    assert set(proposing.PROPOSING) <= set(ADJUSTERS.names())
