"""What a model gives to a task's rows, log-likelihoods of their choices or texts of its own, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
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
"""log-likelihoods [rows, choices], or an answer a row"""


def asked(scorer: Scorer, task: Task, prompt: Prompt, rows: Sequence[Row]) -> Given:
    """What the scorer's model gives to the rows.

    Free answers are written out for every candidate. The log-likelihood of the right answer would cost a single forward, but it
    is not what a user gets: a prompt can make the right words likely and others likelier.
    """
    if task.generation:
        return generated(scorer, task.generation, prompt, rows)
    return scorer.score(prompt, rows, task.most_choices)


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
