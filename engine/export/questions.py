"""Task rows for an exported file: with the prompt that the run chose and, where the file is no torch model, the plain one.

A torch model that was read back is asked by the scorer itself. Another runtime gets token ids and gives log-likelihoods, which
are put together here exactly as the scorer does, or the tokens of free answers. Virtual tokens are left out there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine import events as ev
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.evaluation.measure import Measurement
from engine.evaluation.speed import vocabulary
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.export.runtime.spec import Answer, Asked, Continued
from engine.prompts import answers, context, generator, kept, pool, soft
from engine.prompts.answers import Given
from engine.prompts.finals import scored_event
from engine.prompts.forward import Sequence_, ends
from engine.prompts.scorer import Scorer, arranged
from engine.prompts.template import Prompt
from engine.prompts.vocabulary import readings
from engine.subject import Subject
from engine.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """Rows of a task under a prompt; of a chosen one its calibration, and log offsets [choices] (None of free answers)."""

    task: Task
    prompt: Prompt
    rows: Sequence[Row]
    calibration: str | None = None
    offsets_C: torch.Tensor | None = None


def chosen(workspace: Workspace, options: ExportOptions) -> list[Question]:
    """The last prompt that the steps before this one chose for every task."""
    found: dict[str, dict[str, Any]] = {}
    for index in range(workspace.step):
        summary = (workspace.finished(index) or {}).get("summary", {})
        if "prompts" in summary and "winner" in summary:
            found[summary["task"]] = summary
    return [_kept(workspace, summary, options) for summary in found.values()]


def _kept(workspace: Workspace, summary: dict[str, Any], options: ExportOptions) -> Question:
    folder = workspace.run.artifacts / str(summary["prompts"])
    known, task = kept.read(folder), workspace.task(str(summary["task"]))
    prompt = replace(known.prompt, name=str(summary["winner"]), soft=soft.load(folder))
    offsets_C = torch.tensor(known.offsets, dtype=torch.float64) if known.offsets else None
    return Question(task, prompt, task.test[: options.rows], known.calibration, offsets_C)


def ask(workspace: Workspace, subject: Subject, options: ExportOptions, form: ExportFormat, stage: str) -> None:
    """What a model that was read back gives to the chosen prompts."""
    scorer = Scorer(subject, tell=lambda *_: workspace.check_stop())
    for question in _with_room(workspace, chosen(workspace, options), options, form):
        workspace.look(question.task)
        given = answers.asked(scorer, question.task, question.prompt, question.rows)
        tell(workspace, question, given, stage)


def posed(workspace: Workspace, options: ExportOptions, form: ExportFormat) -> list[Question]:
    """What another runtime is to be asked."""
    evaluate = workspace.profile.evaluate
    tasks = [workspace.task(name) for name in evaluate.tasks if workspace.subject.is_language_model]
    plain = [Question(task, pool.plain(task), task.test[: evaluate.rows][: options.rows]) for task in tasks]
    return _with_room(workspace, [*plain, *chosen(workspace, options)], options, form)


def _with_room(
    workspace: Workspace, questions: Sequence[Question], options: ExportOptions, form: ExportFormat
) -> list[Question]:
    out = []
    for question in questions:
        if question.prompt.soft is None or form.adapters:
            out.append(question)
        else:
            workspace.log(
                f"{question.prompt.name} is not asked: {options.format} has no room for virtual tokens", "warning"
            )
    return out


def sequences(workspace: Workspace, questions: Sequence[Question]) -> list[list[Sequence_]]:
    """What is scored of every question, or gone on from, in tokens of the workspace's model."""
    scorer, out = Scorer(workspace.subject), []
    for question in questions:
        task, prompt, rows = question.task, question.prompt, question.rows
        if task.generation:
            out.append(generator.fitting(scorer, task.generation, prompt, rows))
        else:
            out.append(scorer.fitting(prompt, answers.scored(task, rows), task.most_choices))
    context.tell(workspace, scorer)
    return out


def as_asked(scored: Sequence[Sequence[Sequence_]]) -> list[Asked]:
    """All that are scored as a runtime takes them, one after the other."""
    return [(list(s.tokens), [list(tokens) for _, tokens in s.targets]) for some in scored for s in some if s.targets]


def as_continued(
    subject: Subject, questions: Sequence[Question], scored: Sequence[Sequence[Sequence_]]
) -> list[Continued]:
    """The questions with free answers as a runtime takes them."""
    free = [(some, how) for q, some in zip(questions, scored, strict=True) if (how := q.task.generation)]
    last = {stop: sorted(ends(subject) | ending(subject, stop)) for stop in {how.stop for _, how in free}}
    return [([list(sequence.tokens) for sequence in some], how.tokens, last[how.stop]) for some, how in free]


def ending(subject: Subject, stop: str) -> set[int]:
    """The tokens with which a text has reached the stop, where one has all of it: behind several it is only cut off there."""
    tokenizer: Any = subject.tokenizer
    if not stop:
        return set()
    found = readings(tokenizer, min(len(tokenizer), vocabulary(subject)))
    return {i for i, text in enumerate(found) if stop in text} - set(tokenizer.all_special_ids)


def answered(
    workspace: Workspace,
    questions: Sequence[Question],
    scored: Sequence[Sequence[Sequence_]],
    answer: Answer,
    stage: str,
) -> None:
    """Tells what the runtime's log-likelihoods, of every sequence its targets', amount to, and its free answers."""
    left, written = iter(answer.likelihoods), iter(answer.written)
    for question, some in zip(questions, scored, strict=True):
        workspace.look(question.task)
        task, rows = question.task, question.rows
        if task.generation:
            decoder = generator.Decoder(workspace.subject, task.generation)
            tell(workspace, question, tuple(map(decoder.text, next(written))), stage)
            continue
        values = [value for _ in some for value in next(left)]
        found = arranged(some, values, len(answers.scored(task, rows)), task.most_choices)
        tell(workspace, question, answers.weighed(task, rows, found), stage)


def tell(workspace: Workspace, question: Question, given: Given, stage: str) -> None:
    """A chosen prompt's figure as a test of it at this stage, the plain one's as the stage's own."""
    if question.calibration is None:
        measurement = Measurement(workspace, workspace.subject, workspace.profile.evaluate, stage)
        measurement.given(question.task, given, question.rows)
        return
    figures = answers.judged(question.task.metric, given, question.offsets_C, question.rows)
    about = scored_event(workspace, question.prompt.name, stage, "test", question.calibration, figures)
    workspace.emit(ev.CandidateScored(**about))
