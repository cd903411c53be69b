"""What a choice counts: its log-likelihood, that for each of its characters, or how much the row's text raises it."""

from __future__ import annotations

import json
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
from engine.data.tasks import Task, load_task
from engine.errors import Unavailable, UsageError
from engine.evaluation.measure import Measurement, measure_dense
from engine.prompts import answers, kept, needs
from engine.prompts.contest import Contest
from engine.prompts.embed import Embedding
from engine.prompts.options import EmbedPromptOptions, SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

CHOICES = [(" not at all", " yes"), (" a class", " some module and a name", " no"), (" yes", " yes indeed")]
LENGTHS = {" not at all": 10, " yes": 3, " a class": 7, " some module and a name": 22, " no": 2, " yes indeed": 10}
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
        expected: dict[Scores, torch.Tensor] = {
            "sum": own,
            "norm": own / torch.tensor([LENGTHS[choice] for choice in row.choices]),
            "pmi": own - scorer.score(PROMPT, [empty(row)])[0],
        }
        for scores, right in expected.items():
            made = task(scores)
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


def test_of_choices_that_all_rows_share_empty_fields_are_asked_once() -> None:
    made, scorer = replace(toy(), scores="pmi"), Scorer(subject("llama"))
    rows = made.test[:7]
    assert [len(answers.scored(one, rows)) for one in (made, task("pmi"), toy())] == [8, 14, 7]
    expected = scorer.score(PROMPT, rows) - scorer.score(PROMPT, [empty(rows[0])])
    torch.testing.assert_close(answers.chosen(scorer, made, PROMPT, rows), expected, rtol=1e-4, atol=1e-5)


def test_dense_figures_from_the_cache_are_of_the_same_scores(tmp_path: Path) -> None:
    found = []
    several: list[Scores] = ["sum", "norm", "pmi", "norm"]
    for at, scores in enumerate(several):
        space = at_work(tmp_path / str(at), task=task(scores))
        evaluate = space.profile.evaluate.model_copy(update={"tasks": ["toy"], "perplexity": "none", "speed": False})
        space.profile = space.profile.model_copy(update={"evaluate": evaluate})
        measure_dense(space)
        found.append({name: (m.value, m.cached) for name, m in space.state.metrics["dense"].items() if "toy" in name})
    assert [list(figures) for figures in found] == [["accuracy:toy", "accuracy_norm:toy"], *[["accuracy:toy"]] * 3]
    assert [figures["accuracy:toy"][1] for figures in found] == [False, False, False, True]
    assert found[1]["accuracy:toy"][0] == found[3]["accuracy:toy"][0] == found[0]["accuracy_norm:toy"][0]


@pytest.mark.parametrize("scores", ["sum", "norm", "pmi"])
def test_a_profile_s_scores_reach_the_task(scores: str, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"row {i}", "label": i % 2, "choices": ["a", "bb"]}) for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    about = {"train": f"file:{tmp_path / 'rows.jsonl'}", "choices_column": "choices", "scores": scores}
    assert load_task("x", TaskOptions.model_validate(about), 0).scores == scores


def test_checks_of_a_training_count_as_the_task_does(tmp_path: Path) -> None:
    step = EmbedPromptOptions(use="embed_prompt", task="toy", rows=9, tokens=4)
    found = {}
    several: list[Scores] = ["sum", "pmi"]
    for scores in several:
        made = replace(toy(), scores=scores)
        contest = Contest.open(at_work(tmp_path / scores, step, task=made), step)
        work = Embedding.of(contest, step, PROMPT)
        found[scores] = work.check(None, contest.scorer)
        right = answers.judged(
            "accuracy", answers.chosen(contest.scorer, made, work.text, work.checked), torch.zeros(2), work.checked
        )
        assert found[scores].margin == right.margin
    assert found["sum"].margin != found["pmi"].margin


def test_what_a_prompt_was_scored_by_is_kept_with_it(tmp_path: Path) -> None:
    for scores, said in (("sum", ""), ("norm", "divide it by"), ("pmi", "subtract that of the same choice")):
        kept.write(tmp_path / scores, made := kept.Kept(PROMPT, "toy", {}, "none", [], scores=scores))
        assert kept.read(tmp_path / scores) == made
        text = (tmp_path / scores / "prompt.toml").read_text()
        assert ("scores" in text, said in text) == (scores != "sum", True)
    kept.write(tmp_path / "other", made)
    file = tmp_path / "other" / kept.WINNER
    file.write_text(file.read_text().replace('"pmi"', '"guess"'))
    with pytest.raises(Unavailable, match="scored by 'guess', which is not known here"):
        kept.read(file.parent)


def test_an_evaluation_counts_as_the_task_does(tmp_path: Path) -> None:
    found = dict[str, dict[str, float]]()
    several: list[Scores] = ["sum", "norm", "pmi"]
    for scores in several:
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
        ({"choices_column": "choices", "scores": "pmi", "metric": "nll"}, "nll is of log-likelihoods"),
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
