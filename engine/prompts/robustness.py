"""How finalists do when their inputs are disturbed: each perturbation on the same test rows, for every prompt and model alike.

Calibration stays what the undisturbed development rows gave: nobody knows beforehand how inputs will be disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch

from engine import events as ev
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts import answers
from engine.prompts.cache import ScoreCache
from engine.prompts.disturbing import Asked
from engine.prompts.judging import Standing
from engine.prompts.requests import Answer
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.prompts.writer import Writer
from engine.registry import PERTURBATIONS
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.prompts.finals import Finals

TOKENS = 80  # of a restated text
ASKING = 40  # about so many tokens of a request stand around the text, for estimates


@dataclass
class Words:
    """The dense model as a writer, loaded when something is to be written and the model at hand is another one."""

    workspace: Workspace
    scorer: Scorer
    stage: str

    @cached_property
    def writer(self) -> Writer:
        workspace = self.workspace
        subject = self.scorer.subject if self.stage == "dense" else workspace.dense_subject()
        return Writer(subject, ScoreCache(), workspace.profile.seed, workspace.check_stop)

    def write(self, requests: Sequence[str]) -> list[Answer]:
        self.workspace.log(f"the dense model restates {len(requests)} texts")
        return self.writer.write(requests, TOKENS)


def tell(finals: Finals, scorer: Scorer, stage: str) -> None:
    """Every finalist under every perturbation that the options name, as events."""
    scorer = replace(scorer, cut={})  # a disturbed row that is cut is one of those that are told already
    words = Words(finals.workspace, scorer, stage)
    if finals.options.robustness:
        for index, prompt in zip(finals.indices, finals.finalists, strict=True):
            _tell_prompt(finals, scorer, words, index, prompt)


def _tell_prompt(finals: Finals, scorer: Scorer, words: Words, index: int, prompt: Prompt) -> None:
    options, workspace = finals.options, finals.workspace
    rows, task = finals.rows[: options.robustness_rows], finals.task
    offsets = finals.race.offsets(index, options.calibration)
    scorer.tell = partial(finals.progress, f"test split: {prompt.name}")
    clean = _standing(scorer, task, prompt, rows, offsets)
    for name in options.robustness:
        before = Asked(prompt, rows, f"{name} {workspace.profile.seed}", words.write)
        asked = PERTURBATIONS.load(name).perturb(before)
        changed = _changed(before, asked)
        if changed:
            scorer.tell = partial(finals.progress, f"{name}: {prompt.name}")
            found = _standing(scorer, task, asked.prompt, asked.rows, offsets)
            workspace.emit(ev.PromptPerturbed(**_event(workspace, prompt, words.stage, name, changed, clean, found)))


def _changed(before: Asked, after: Asked) -> int:
    """How many rows the model is asked otherwise about."""
    pairs = zip(before.rows, after.rows, strict=True)
    return sum(before.prompt.fill(a) != after.prompt.fill(b) for a, b in pairs)


def _standing(
    scorer: Scorer, task: Task, prompt: Prompt, rows: Sequence[Row], offsets: torch.Tensor | None
) -> Standing:
    return answers.judged(task.metric, answers.asked(scorer, task, prompt, rows), offsets, rows)


def _event(
    workspace: Workspace, prompt: Prompt, stage: str, name: str, changed: int, before: Standing, after: Standing
) -> dict[str, Any]:
    seed = workspace.profile.seed
    low, high = after.measured.interval(seed)
    change = after.measured.against(before.measured, seed)
    return {
        "step": workspace.step, "candidate": prompt.name, "stage": stage, "perturbation": name, "n": after.rows,
        "changed": changed, "accuracy": after.quality, "low": low, "high": high, "before": before.quality,
        "metric": after.measured.metric, "change_low": change.low, "change_high": change.high,
    }  # fmt: skip
