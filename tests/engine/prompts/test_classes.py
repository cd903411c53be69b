"""Every class in every split that a prompt step uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import at_work, toy

from engine import foreseen, preflight
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts.adjusters import grips
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, PromptStepOptions, SelectPromptOptions


def of_class(rows: list[Row], gold: int) -> list[Row]:
    return [row for row in rows if row.gold == gold]


def select(**changes: Any) -> PromptStepOptions:
    return SelectPromptOptions.model_validate(
        {"use": "select_prompt", "task": "toy", "candidates": ["Yes?"], **changes}
    )


def adjust(**changes: Any) -> PromptStepOptions:
    return AdjustPromptOptions.model_validate({"use": "adjust_prompt", "task": "toy", **changes})


ONE_SIDED = {split: replace(toy(), **{split: of_class(getattr(toy(), split), 1)}) for split in ("train", "dev", "test")}
SORTED = replace(toy(), dev=of_class(toy().dev, 0) + of_class(toy().dev, 1))


def check(folder: Path, step: PromptStepOptions, task: Task) -> None:
    preflight.check_prompts(foreseen.steps(at_work(folder, step, task=task), []))


@pytest.mark.parametrize(
    ("split", "step"),
    [
        ("dev", select()), ("test", select()), ("dev", adjust()), ("test", adjust(method="capo")),
        ("train", select(demonstrations=[0, 2])), ("train", select(induction=2)), ("train", adjust(demonstrations=2)),
        ("train", adjust(method="capo")),
        ("train", EmbedPromptOptions(use="embed_prompt", task="toy", demonstrations=2)),
    ],
)  # fmt: skip
def test_a_split_that_lacks_a_class_is_named_with_it(split: str, step: PromptStepOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no row of '0' among the [0-9]+ {split} rows") as refused:
        check(tmp_path / "run", step, ONE_SIDED[split])
    assert refused.value.where == "task toy"
    assert "every class" in (refused.value.hint or "")
    check(tmp_path / "whole", step, toy())


@pytest.mark.parametrize("step", [select(), adjust(method="grips"), adjust(method="capo", max_demonstrations=0)])
def test_training_rows_that_are_not_shown_need_no_class(step: PromptStepOptions, tmp_path: Path) -> None:
    check(tmp_path / "run", step, ONE_SIDED["train"])


def test_the_first_rows_of_a_sorted_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row of '1' among the 10 dev rows") as refused:
        check(tmp_path / "run", select(dev_rows=10), SORTED)
    assert "raise dev_rows" in (refused.value.hint or "")
    check(tmp_path / "more", select(dev_rows=30), SORTED)


def test_a_class_that_nobody_has_and_choices_of_the_rows_own(tmp_path: Path) -> None:
    check(tmp_path / "run", select(), replace(toy(), labels={"0": " no", "1": " yes", "2": " perhaps"}))
    check(tmp_path / "few", select(dev_rows=1), SORTED)
    check(tmp_path / "own", select(), replace(ONE_SIDED["dev"], labels={}))


def test_an_adjuster_says_itself_that_it_shows_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grips, "SHOWS", True, raising=False)
    with pytest.raises(UsageError, match="train rows"):
        check(tmp_path / "run", adjust(method="grips", max_demonstrations=2), ONE_SIDED["train"])
