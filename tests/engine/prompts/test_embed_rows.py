"""What an `embed_prompt` step trains, checks and races on, and what it lacks: said before the run where it can be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.embedding import TEXT, margins, options, planted
from fixtures.models import subject
from fixtures.prompting import answering, at_work, toy
from pydantic import ValidationError

from engine import foreseen, preflight
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import embed, pool, room
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.reading import Reading
from engine.prompts.template import Prompt
from engine.pruning.options import PruneOptions


def working(folder: Path, chosen: EmbedPromptOptions, start: Prompt) -> embed.Embedding:
    made = at_work(folder, chosen)
    contest = embed.Contest.open(made, chosen)
    rows = room.check(contest, chosen, start)
    for prompt in (pool.plain(contest.task), start):
        contest.enter(prompt)
    return embed.Embedding(made, chosen, contest, start, rows, embed.held_back(contest, chosen))


NOTHING = Reading([], [], "")


def test_the_text_by_itself_is_a_rival_of_a_continued_training(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(), replace(TEXT, soft=planted("soft")))
    learned = replace(planted("soft"), weight_NW=planted("soft").weight_NW + 1)
    others, virtual = work.enter(learned, NOTHING)
    prompts = work.contest.race.prompts
    assert [prompts[i].name for i in others] == ["plain", "text", "start"]
    assert prompts[others[1]].same(TEXT)
    assert prompts[virtual].soft == learned
    with pytest.raises(UsageError, match="4 examples for 5 prompts"):
        working(tmp_path / "poor", options(budget=4), replace(TEXT, soft=planted("soft")))


def test_a_continued_training_that_improves_nothing_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = working(tmp_path / "run", options(), replace(TEXT, soft=planted("soft")))
    answering(monkeypatch, margins(1.0, 0.2))
    others, learned = work.enter(planted("soft"), NOTHING)
    assert learned not in others
    assert work.contest.race.prompts[learned].name == "start"
    summary = embed.settle(work, planted("soft"), NOTHING)
    assert (summary["winner"], summary["kept"]) == ("start", False)
    assert any("nothing was learned" in line.message for line in work.workspace.state.log)


def test_the_template_alone_may_stand_behind_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are trained and checked so, and raced against the whole prompt."""
    answering(monkeypatch, margins(1.0, 0.2))
    asked: list[Prompt] = []
    work = working(tmp_path / "run", options(behind="template"), TEXT)
    assert (work.text.instruction, work.text.demonstrations) == ("", ())
    score = work.contest.scorer.score
    monkeypatch.setattr(
        work.contest.scorer, "score", lambda prompt, *more: asked.append(prompt) or score(prompt, *more)
    )
    work.check(planted("soft"), work.contest.scorer)
    others, learned = work.enter(planted("soft"), NOTHING)
    prompts = work.contest.race.prompts
    assert asked == [replace(work.text, soft=planted("soft"))]
    assert [prompts[i].name for i in others] == ["plain", "start"]
    assert prompts[others[-1]].same(TEXT)
    assert prompts[learned].same(asked[0])


def test_what_the_tokens_say_is_no_candidate_where_it_has_no_room(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(), TEXT)
    rest = room.needed(work.contest, TEXT, work.rows)
    said = Reading([], [], " yes" * (512 - rest - 20))
    assert [prompt.name for prompt in work.projected(said)] == ["projected"]
    assert work.projected(Reading([], [], " yes" * (512 - rest + 1))) == []
    assert "projected is left out" in work.workspace.state.log[-1].message
    assert work.projected(NOTHING) == []


def test_the_dense_model_is_not_its_own_teacher(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(alpha=0.5), TEXT)
    assert work.teacher() is None
    work.workspace.stage = "pruned"
    teacher = work.teacher()
    assert teacher is not None
    assert (teacher.prompt, teacher.kind) == (work.text, "none")


def test_by_default_choices_have_a_teacher_and_free_answers_none() -> None:
    assert [options(alpha=None).weight(free) for free in (False, True)] == [0.5, 0.0]
    assert [options(alpha=None, taught="prompt").weight(free) for free in (False, True)] == [0.5, 0.5]
    assert [options(alpha=0.2).weight(free) for free in (False, True)] == [0.2, 0.2]
    with pytest.raises(ValidationError, match="alpha = 0 learns nothing"):
        options(alpha=0.0, taught="prompt")


def test_a_teacher_with_the_whole_prompt_may_be_the_model_itself(tmp_path: Path) -> None:
    learned = replace(TEXT, soft=planted("soft"))
    work = working(
        tmp_path / "run", options(alpha=0.5, taught="prompt", behind="template", calibration="batch"), learned
    )
    teacher = work.teacher()
    assert teacher is not None
    assert (teacher.prompt, teacher.kind) == (TEXT, "batch")
    assert work.text != TEXT
    assert working(tmp_path / "same", options(alpha=0.5, taught="prompt", behind="prompt"), TEXT).teacher() is None


def test_shown_rows_are_not_trained_on_and_the_rest_is_drawn_by_seed() -> None:
    task = replace(toy(), train=sorted(toy().train, key=lambda row: row.gold))
    shown = replace(TEXT, demonstrations=tuple(task.train[:2]))
    everything = room.training(task, options(), shown, 0)
    assert len(everything) == 10
    assert not any(row in shown.demonstrations for row in everything)
    some = room.training(task, options(train_rows=4), shown, 0)
    assert sorted(row.gold for row in some) == [0, 0, 1, 1]
    assert some == room.training(task, options(train_rows=4), shown, 0)
    assert some != room.training(task, options(train_rows=4), shown, 1)


def test_checks_are_made_on_rows_of_every_class(tmp_path: Path) -> None:
    task = replace(toy(), dev=sorted(toy().dev, key=lambda row: row.gold))
    contest = embed.Contest.open(at_work(tmp_path / "run", options(), task=task), options())
    held = embed.held_back(contest, options())
    assert sorted(row.gold for row in held) == [0] * 4 + [1] * 4
    assert len(contest.race.rows) == 32
    assert not {id(row) for row in held} & {id(row) for row in contest.race.rows}


@pytest.mark.parametrize("rare", [2, 3, 5])
def test_checks_leave_rows_of_a_rare_class_to_choose_by(rare: int, tmp_path: Path) -> None:
    common = [row for row in toy().dev if row.gold == 0]
    task = replace(toy(), dev=[*common, *(row for row in toy().dev if row.gold == 1)][: len(common) + rare])
    contest = embed.Contest.open(at_work(tmp_path / "run", options(), task=task), options())
    held = embed.held_back(contest, options(rows=64))
    assert len(held) == len(task.dev) // 2
    for rows in (held, contest.race.rows):
        assert abs(sum(row.gold for row in rows) - rare / 2) <= 0.5


@pytest.mark.parametrize(
    ("changes", "task", "where", "message"),
    [
        ({"tokens": 500}, toy(), "step.1.tokens", "500 virtual tokens"),
        ({"instruction": "yes " * 600}, toy(), "step.1.tokens", "do not fit"),
        ({}, replace(toy(), train=[]), "task toy", "no rows to train on"),
        ({"demonstrations": 12}, toy(), "task toy", "no rows to train on"),
        ({}, replace(toy(), dev=toy().dev[:1]), "task toy", "one development row cannot both"),
        ({"budget": 3}, toy(), "step.1.budget", "a budget of 3 examples"),
        ({}, replace(toy(), labels={}), "task toy", "calibration needs a task with fixed labels"),
    ],
)
def test_what_the_step_would_refuse_is_refused_before_the_run(
    changes: dict[str, Any], task: Task, where: str, message: str, tmp_path: Path
) -> None:
    made = at_work(tmp_path / "run", options(), task=task)
    made.profile = made.profile.model_copy(update={"step": [PruneOptions(use="prune"), options(**changes)]})
    with pytest.raises(UsageError, match=message) as refused:
        preflight.check_prompts(foreseen.steps(made, []))
    assert refused.value.where == where
    assert "tokens = 1" not in str(refused.value.hint)
    replace(made, step=1).finish({"summary": {}})
    preflight.check_prompts(foreseen.steps(made, []))


def test_a_form_that_the_model_cannot_have_is_refused_before_the_run(tmp_path: Path) -> None:
    made = at_work(tmp_path / "run", options(form="prefix"))
    preflight.check_prompts(foreseen.steps(made, []))
    made.subject = subject("deepseek_v3")
    with pytest.raises(UsageError, match="one shape") as refused:
        preflight.check_prompts(foreseen.steps(made, []))
    assert refused.value.where == "step.0.form"


@pytest.mark.parametrize(
    ("step", "least"),
    [
        (SelectPromptOptions(use="select_prompt", task="toy", candidates=["a", "b"], budget=23), 3 * 8),
        (SelectPromptOptions(use="select_prompt", task="toy", candidates=["a", "b"], budget=14, dev_rows=5), 3 * 5),
        (AdjustPromptOptions(use="adjust_prompt", task="toy", budget=75), 20 + 7 * 8),
        (AdjustPromptOptions(use="adjust_prompt", task="toy", instruction="a", budget=95), 2 * 20 + 7 * 8),
        (options(budget=31), 4 * 8),
    ],
)
def test_a_budget_that_is_too_small_is_refused_before_the_run(
    step: PromptStepOptions, least: int, tmp_path: Path
) -> None:
    made = at_work(tmp_path / "run", options())
    made.profile = made.profile.model_copy(update={"step": [step]})
    with pytest.raises(UsageError, match="a budget of") as refused:
        preflight.check_prompts(foreseen.steps(made, []))
    assert refused.value.where == "step.0.budget"
    assert f"at least {least}" in (refused.value.hint or "")
    made.profile = made.profile.model_copy(update={"step": [step.model_copy(update={"budget": least})]})
    preflight.check_prompts(foreseen.steps(made, []))
