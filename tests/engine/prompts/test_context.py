"""Rows that are too long for the model: what is cut, how far, that nothing else is, and that it is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.models import subject
from fixtures.prompting import WORDS, at_work, options, setting, toy

from engine import events as ev
from engine import foreseen, preflight
from engine.data.rows import Row
from engine.data.tasks import Generation, Task
from engine.errors import UsageError
from engine.evaluation.measure import Measurement
from engine.evaluation.options import EvaluateOptions
from engine.prompts import adjust, select
from engine.prompts.adjusters import gcg
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.gradient import Question
from engine.prompts.lessons import ChoiceLessons
from engine.prompts.options import EmbedPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.soft import beginning
from engine.prompts.template import Prompt
from engine.prompts.vocabulary import Vocabulary

POSITIONS = 512  # of the tiny models
LONG = " ".join(WORDS * 60)
CHOICES = (" no", " yes indeed")
PROMPT = Prompt("asked", "{title}: {text}\nAnswer:", "Say yes or no.", tuple(toy().train[:0]))


def row(text: str, title: str = "a name") -> Row:
    return Row(text, {"text": text, "title": title}, CHOICES, 0)


def texts(scorer: Scorer, rows: Sequence[Row], prompt: Prompt = PROMPT) -> list[str]:
    """What the model reads of every choice, in order, the answer's last token aside."""
    return [scorer.subject.tokenizer.decode(s.tokens) for s in scorer.fitting(prompt, rows, 2)]


def test_as_much_as_fits_of_the_longest_field_and_all_of_the_rest() -> None:
    scorer = Scorer(subject("llama"))
    sequences = scorer.fitting(PROMPT, [row(LONG)], 2)
    assert POSITIONS - 2 <= max(len(s.tokens) for s in sequences) <= POSITIONS
    for text in texts(scorer, [row(LONG)]):
        assert "Say yes or no.\n\na name: the class statement" in text
        assert "\nAnswer:" in text[-24:]
    (shown, *_) = texts(scorer, [row("a name", title=LONG)])
    assert ": a name\nAnswer:" in shown, "the title is the longer one here"


def test_a_cut_row_scores_as_the_shorter_row_and_others_as_before() -> None:
    scorer, whole = Scorer(subject("llama")), [row("no value"), row(LONG), row("a name is bound")]
    found = scorer.score(PROMPT, whole)
    (text, _) = texts(scorer, [row(LONG)])
    kept = text[text.index("a name: ") + 8 : text.index("\nAnswer:")]
    assert LONG.startswith(kept)
    assert len(kept) > 1000
    fresh = Scorer(scorer.subject)
    torch.testing.assert_close(found, fresh.score(PROMPT, [whole[0], row(kept), whole[2]]))
    assert (scorer.cut, fresh.cut) == ({"asked": {row(LONG).digest}}, {})


def test_virtual_tokens_take_their_room() -> None:
    scorer = Scorer(subject("llama"))
    soft = beginning("soft", scorer.subject, [5] * 40)
    scorer.score(replace(PROMPT, soft=soft), [row(LONG)])
    sequences = scorer.fitting(replace(PROMPT, soft=soft), [row(LONG)], 2)
    assert POSITIONS - 42 <= max(len(s.tokens) for s in sequences) <= POSITIONS - 40


def test_rows_to_learn_from_leave_room_for_virtual_tokens() -> None:
    made = ChoiceLessons.of(
        Scorer(subject("llama")), PROMPT, [row(LONG), row("no value")], 40, None, 0.5, 2.0, torch.float32
    )
    assert POSITIONS - 42 <= max(len(s.tokens) for one in made.sequences for s in one) <= POSITIONS - 40


def test_a_gradient_is_of_rows_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    at, followed = setting(1, method="gcg"), list[Question]()
    at = replace(at, task=replace(at.task, train=long_task().dev[:4]))
    gradient = gcg.task_gradient
    monkeypatch.setattr(gcg, "task_gradient", lambda *about: (followed.extend(about[2]), gradient(*about))[1])
    assert gcg.found(at.start, Vocabulary(at.subject, words=True), at)
    lengths = [len(sequence.tokens) for question in followed for sequence in question.sequences]
    assert POSITIONS - 2 <= max(lengths) <= POSITIONS


def test_a_row_that_is_too_long_does_not_refuse_virtual_tokens(tmp_path: Path) -> None:
    step = EmbedPromptOptions(use="embed_prompt", task="toy", tokens=40, budget=200, calibration="none")
    preflight.check_prompts(foreseen.steps(at_work(tmp_path / "run", step, task=long_task()), []))
    for words, tokens in ((LONG, 40), ("yes", 500)):
        refused = step.model_copy(update={"instruction": words, "tokens": tokens})
        with pytest.raises(UsageError, match="do not fit in the model's 512 positions"):
            preflight.check_prompts(foreseen.steps(at_work(tmp_path / f"{tokens}", refused, task=long_task()), []))


def test_a_prompt_without_room_for_a_row_is_an_error() -> None:
    with pytest.raises(UsageError, match="no room in the model's context for 'no value'") as refused:
        Scorer(subject("llama")).score(replace(PROMPT, instruction=LONG), [row("no value")])
    assert refused.value.where == "prompt asked"
    assert "fewer or shorter demonstrations" in (refused.value.hint or "")


def long_task() -> Task:
    """The toy task with one development and two test rows that are too long."""
    task = toy()
    dev, test = list(task.dev), list(task.test)
    for rows, places in ((dev, [3]), (test, [0, 5])):
        for place in places:
            text = f"{place} {LONG}"
            rows[place] = replace(rows[place], text=text, fields={"text": text})
    return replace(task, dev=dev, test=test)


def test_a_step_says_how_many_rows_were_cut(tmp_path: Path) -> None:
    told = list[ev.Event]()
    step = SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?"], budget=80)
    summary = select.run(at_work(tmp_path / "run", step, told, long_task()), step)
    assert summary["cut"] == 3
    (line,) = [e.message for e in told if isinstance(e, ev.Log) and "longest field" in e.message]
    assert line.startswith("3 rows do not fit in the model's 512 positions with plain, c01")
    told.clear()
    assert "cut" not in select.run(at_work(tmp_path / "short", step, told), step)
    assert not [e for e in told if isinstance(e, ev.Log) and "longest field" in e.message]


@pytest.mark.parametrize(
    "changes", [{}, {"labels": {}, "metric": "chrf", "generation": Generation(2, "")}], ids=["choices", "free answers"]
)
def test_a_measurement_says_so_too(changes: dict[str, Any], tmp_path: Path) -> None:
    told = list[ev.Event]()
    made = at_work(tmp_path / "run", None, told, replace(long_task(), **changes))
    Measurement(made, made.subject, EvaluateOptions(tasks=["toy"]), "dense").task("toy")
    assert [e.message[:6] for e in told if isinstance(e, ev.Log)] == ["2 rows"]


def test_disturbed_copies_of_a_row_that_is_cut_are_no_other_rows(tmp_path: Path) -> None:
    step = SelectPromptOptions(
        use="select_prompt", task="toy", candidates=["Yes?"], budget=80, robustness=["case"], calibration="none"
    )
    assert select.run(at_work(tmp_path / "run", step, task=long_task()), step)["cut"] == 3


@pytest.mark.parametrize(
    "step",
    [
        SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?", LONG]),
        options(instruction=LONG),
    ],
)
def test_a_given_prompt_without_room_is_refused_before_the_run(step: PromptStepOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="but the model has 512 positions") as refused:
        preflight.check_prompts(foreseen.steps(at_work(tmp_path / "run", step), []))
    assert refused.value.where == "step.0"


SLOT = 5  # tokens of a template's `{text}`, in the place of which the barest row has nothing


@pytest.mark.parametrize("method", ["capo", "rewrite"])
def test_a_search_goes_on_without_what_has_no_room(method: str, tmp_path: Path) -> None:
    told, step = list[ev.Event](), options(method=method, rows=8, budget=400, finalists=3)
    work = at_work(tmp_path / "run", step, told)
    work.subject = subject("llama", max_position_embeddings=120)
    assert adjust.run(work, step)["rows"] == 30
    tokens = [e.tokens for e in told if isinstance(e, ev.CandidateAdded)]
    assert len(tokens) > 4
    assert 60 < max(tokens) < 120 + SLOT
    free = at_work(tmp_path / "free", step, told)
    told.clear()
    adjust.run(free, step)
    assert max(e.tokens for e in told if isinstance(e, ev.CandidateAdded)) > 120 + SLOT, (
        "there is something to leave out"
    )


def test_an_adjuster_without_room_for_anything_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = list[float](), list[ev.Event]()

    def endless(setting: Setting) -> Adjuster:
        while True:
            (answer,) = yield [setting.with_instruction(f"{LONG} {len(asked)}", "longer and longer")]
            asked.append(answer.skill)

    monkeypatch.setattr(adjust, "ADJUSTERS", SimpleNamespace(load=lambda name: SimpleNamespace(adjust=endless)))
    step = options(rows=8, budget=400, finalists=3)
    adjust.run(at_work(tmp_path / "run", step, told), step)
    (start,) = (e.accuracy for e in told if isinstance(e, ev.CandidateScored) and e.n == 8 and e.candidate == "start")
    assert len(asked) == adjust.CROWDED - 1
    assert max(asked) < start
    warned = [e.message for e in told if isinstance(e, ev.Log) and "no new prompt" in e.message]
    assert len(warned) == 1
    assert "with room in the model's context" in warned[0]


def test_a_prompt_without_room_for_its_answer_is_refused_before_the_run(tmp_path: Path) -> None:
    step = SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?"], calibration="none")
    for tokens, fits in ((500, False), (480, True)):
        free = replace(toy(), labels={}, metric="chrf", generation=Generation(tokens, ""))
        work = at_work(tmp_path / f"{tokens}", step, task=free)
        with (
            nullcontext()
            if fits
            else pytest.raises(UsageError, match="with a row and an answer, but the model has 512")
        ):
            preflight.check_prompts(foreseen.steps(work, []))
