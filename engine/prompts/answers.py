"""What a model gives to a task's rows, log-likelihoods of their choices or texts of its own, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts import calibration, judging
from engine.prompts.generator import generated
from engine.prompts.judging import Standing
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

Given = torch.Tensor | tuple[str, ...]
"""what the choices count [rows, choices], log-likelihoods by default, or an answer a row"""


def asked(scorer: Scorer, task: Task, prompt: Prompt, rows: Sequence[Row]) -> Given:
    """What the scorer's model gives to the rows.

    Free answers are written out for every candidate. The log-likelihood of the right answer would cost a single forward, but it
    is not what a user gets: a prompt can make the right words likely and others likelier.
    """
    if task.generation:
        return generated(scorer, task.generation, prompt, rows)
    return chosen(scorer, task, prompt, rows)


def chosen(scorer: Scorer, task: Task, prompt: Prompt, rows: Sequence[Row]) -> torch.Tensor:
    """What the rows' choices count [R, C]."""
    return weighed(task, rows, scorer.score(prompt, scored(task, rows), task.most_choices))


def scored(task: Task, rows: Sequence[Row]) -> list[Row]:
    """The rows whose choices are scored so that the given ones can be weighed: of PMI each with empty fields too, behind, or
    one where all have the same choices.
    """
    some = [] if task.scores != "pmi" else rows[:1] if task.labels else rows
    return [*rows, *(replace(row, text="", fields=dict.fromkeys(row.fields, "")) for row in some)]


def weighed(task: Task, rows: Sequence[Row], scores_SC: torch.Tensor) -> torch.Tensor:
    """What the choices count [R, C], from the log-likelihoods of the rows that are `scored`: their own, that for each of their
    characters (acc_norm; Gao et al., lm-evaluation-harness), or PMI_DC, minus that with empty fields (Holtzman et al. 2021,
    arXiv 2104.08315, equation 3).
    """
    count = len(rows)
    if task.scores == "pmi":
        return torch.where(scores_SC[:count].isneginf(), -torch.inf, scores_SC[:count] - scores_SC[count:])
    return scores_SC / lengths(rows, scores_SC.shape[1]) if task.scores == "norm" else scores_SC


def lengths(rows: Sequence[Row], width: int) -> torch.Tensor:
    """Characters of every choice [R, C], the blank ahead of it left out; 1 where a row has no more of them."""
    return torch.tensor([[len(c.strip()) for c in row.choices] + [1] * (width - len(row.choices)) for row in rows])


def joined(one: Given, other: Given) -> Given:
    """Both, one behind the other."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.cat([one, other])
    return (*one, *other)


def calibrated(given: Given, offsets_C: torch.Tensor | None) -> Given:
    """Log-probabilities [rows, choices]; free answers as they are."""
    if isinstance(given, torch.Tensor):
        assert offsets_C is not None
        return calibration.apply(given, offsets_C)
    return given


def judged(metric: str, given: Given, offsets_C: torch.Tensor | None, rows: Sequence[Row]) -> Standing:
    """The figures of what was given, calibrated."""
    return standing(metric, calibrated(given, offsets_C), rows)


def record(found: torch.Tensor | str, row: Row, figures: Standing, index: int) -> dict[str, Any]:
    """What was given to one row, for a file of examples: the answer, the choices' log-probabilities, and whether it is right or
    what the metric gives it, with its numbers where the metric adds some up.
    """
    measured, out = figures.measured, dict[str, Any]()
    if isinstance(found, torch.Tensor):
        out["choice"] = row.choices[int(found.argmax())].strip()
        out["scores"] = {c.strip(): round(float(s), 4) for c, s in zip(row.choices, found, strict=False)}
    else:
        out["choice"] = found
    if figures.correct is not None:
        out["correct"] = bool(figures.correct[index])
    if not measured.binary:
        out["value"] = round(float(measured.values[index]), 6)
    if measured.parts_RK is not None:
        out["parts"] = measured.parts_RK[index].tolist()
    return out


def standing(metric: str, found: Given, rows: Sequence[Row]) -> Standing:
    """The figures of calibrated log-probabilities, or of free answers."""
    if isinstance(found, torch.Tensor):
        return judging.of_choices(metric, found.numpy(), [row.gold for row in rows])
    return judging.of_answers(metric, found, [[choice.strip() for choice in row.choices] for row in rows])
