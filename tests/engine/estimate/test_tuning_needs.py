"""What training virtual tokens is said to need: bounded in a batch's rows, more for longer answers and rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import at_work, toy
from fixtures.sizes import SIZES

from engine.data.tasks import Task
from engine.estimate import steps, tuning
from engine.estimate.needs import Needs
from engine.estimate.scene import Scene
from engine.prompts.options import EmbedPromptOptions

SEVERAL = (" a very long choice", " no", " yes indeed")


def options(**changes: Any) -> EmbedPromptOptions:
    return EmbedPromptOptions.model_validate({"use": "embed_prompt", "task": "toy", **changes})


def scene(folder: Path, task: Task, changed: bool = False) -> Scene:
    return Scene(at_work(folder, task=task), SIZES, changed)


def training(folder: Path, task: Task, **changes: Any) -> Needs:
    return tuning.training(scene(folder, task), options(**changes), task.train, task.template, 20)


def test_a_larger_batch_needs_more_memory_up_to_a_bound(tmp_path: Path) -> None:
    task = toy(train=200)
    few, some, many = (training(tmp_path / str(b), task, batch=b).memory for b in (1, 16, 64))
    assert few < some <= many == training(tmp_path / "all", task, batch=200).memory


def test_the_longest_row_decides(tmp_path: Path) -> None:
    task = toy(train=200)
    row = replace(task.train[70], fields={"text": "a name is bound " * 100})
    longer = replace(task, train=[*task.train[:70], row, *task.train[71:]])
    plain, found = (training(tmp_path / name, t, batch=1) for name, t in (("a", task), ("b", longer)))
    assert found.memory > 5 * plain.memory


def test_predictions_are_counted_for_every_token_of_an_answer(tmp_path: Path) -> None:
    task = toy(train=20)
    several = replace(task, train=[replace(row, choices=SEVERAL) for row in task.train])
    asked = scene(tmp_path / "s", several).asked(several.train, task.template)
    assert (asked.sequences, asked.answer > 2) == (3, True)
    found = training(tmp_path / "b", several, batch=1)
    assert found.memory > 3 * asked.answer * SIZES.vocabulary * 4 * 4
    assert found.work.products["float32"] > 2 * training(tmp_path / "a", task, batch=1).work.products["float32"]


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_a_step_is_less_than_three_forwards_and_more_than_two(form: str, tmp_path: Path) -> None:
    task = toy(train=8)
    made = scene(tmp_path / "s", task)
    asked = made.asked(task.train, task.template)
    step = tuning.step(made, asked, 4, 4, 20).products["float32"]
    once = tuning.parts.forward(SIZES, 4 * asked.mean + 20, asked.mean + 20, "float32", 4).products["float32"]
    assert 2 * once < step < 3 * once


def test_a_dense_model_has_no_teacher(tmp_path: Path) -> None:
    made = scene(tmp_path / "s", toy())
    alone, taught = (steps.embed_prompt(made, options(alpha=alpha)) for alpha in (0.0, 0.5))
    assert alone == taught
    assert steps.embed_prompt(replace(made, changed=True), options(alpha=0.5)).work.traffic > taught.work.traffic
