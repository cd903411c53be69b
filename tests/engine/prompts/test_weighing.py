"""What a choice counts: its log-likelihood, that for each of its characters, or how much the row's text raises it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.prompting import at_work, toy
from pydantic import ValidationError

from engine.data.options import Scores, TaskOptions
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.evaluation.measure import Measurement
from engine.prompts import answers, needs
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

CHOICES = [(" not at all", " yes"), (" a class", " some module and a name", " no"), (" yes", " yes indeed")]
PROMPT = Prompt("shots", "Statement: {text}\nAnswer:", "Choose.", tuple(toy().train[:2]))


def task(scores: Scores) -> Task:
    """Nine rows of two or three choices, each three of them the same."""
    rows = [replace(row, choices=CHOICES[i % 3], gold=i % 2) for i, row in enumerate(toy().test[:9])]
    return replace(toy(), labels={}, test=rows, scores=scores)


def empty(row: Row) -> Row:
    return replace(row, text="", fields={"text": ""})


@pytest.mark.parametrize("device", DEVICES)
def test_each_is_what_its_formula_says_of_every_row_alone(device: str) -> None:
    model = subject("llama")
    model.module.to(device)
    scorer = Scorer(model)
    for row in task("sum").test:
        own = scorer.score(PROMPT, [row])[0]
        expected = {
            "sum": own,
            "norm": own / torch.tensor([len(choice) for choice in row.choices]),
            "pmi": own - scorer.score(PROMPT, [empty(row)])[0],
        }
        for scores, right in expected.items():
            made = task(scores)  # type: ignore[arg-type]
            at = task("sum").test.index(row)
            found = answers.chosen(scorer, made, PROMPT, made.test)
            assert found.shape == (9, 3)
            torch.testing.assert_close(found[at, : len(row.choices)], right, rtol=1e-4, atol=1e-5)
            assert bool(found[at, len(row.choices) :].isneginf().all()), "a choice that the row does not have"


def test_what_is_likely_anyway_is_not_ahead_by_pmi() -> None:
    """A row whose text says nothing counts nothing, whatever its words are like."""
    made = task("pmi")
    rows = [empty(row) for row in made.test]
    found = answers.chosen(Scorer(subject("llama")), made, PROMPT, rows)
    torch.testing.assert_close(found[found.isfinite()], torch.zeros(21, dtype=torch.float64), atol=1e-6, rtol=0)


def test_an_evaluation_counts_as_the_task_does(tmp_path: Path) -> None:
    found = dict[str, dict[str, float]]()
    for scores in ("sum", "norm", "pmi"):
        space = at_work(tmp_path / scores, task=task(scores))
        Measurement(space, space.subject, space.profile.evaluate, "dense").task("toy")
        found[scores] = {name: metric.value for name, metric in space.state.metrics["dense"].items()}
    assert found["norm"] == {"accuracy:toy": found["sum"]["accuracy_norm:toy"]}
    assert list(found["pmi"]) == ["accuracy:toy"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer_column": "answer", "scores": "pmi"}, "free answers have none"),
        ({"labels": {"0": " a", "1": " b"}, "scores": "norm"}, "of a choices_column, which differ in length"),
        ({"choices_column": "choices", "scores": "mean"}, "'sum', 'norm' or 'pmi'"),
    ],
)
def test_scores_that_a_task_cannot_have(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TaskOptions.model_validate({"train": "file:a.jsonl", **changes})


def test_calibration_beside_pmi_is_refused() -> None:
    step = SelectPromptOptions(use="select_prompt", task="toy", calibration="batch")
    with pytest.raises(UsageError, match="PMI corrects the words' bias by itself"):
        needs.check_task(replace(toy(), scores="pmi"), step)
    needs.check_task(replace(toy(), scores="pmi"), step.model_copy(update={"calibration": "none"}))
