"""The `finetune` step: the whole model learns the right answers of a text, a task or its features."""

from __future__ import annotations

from typing import Any

from engine.training import course
from engine.training.learning import Learning
from engine.training.losses import right_answers
from engine.training.material import material
from engine.training.options import TrainingOptions
from engine.workspace import Workspace


def run(workspace: Workspace, options: TrainingOptions) -> dict[str, Any]:
    """Trains the workspace's model in place; returns the step's summary."""
    subject = workspace.subject
    learning = Learning.of(subject, material(workspace, options), right_answers, options)
    summary = course.whole(workspace, options, learning)
    course.keep(workspace)
    return summary


def restore(workspace: Workspace, options: TrainingOptions) -> None:
    """Puts the weights of a finished step back."""
    course.put_back(workspace)
