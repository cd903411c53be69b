"""Which model every step will meet, as far as that is known before the first of them: parts that a step takes out are not, the
student that a step puts in the model's place is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from engine.calibration import Walk
from engine.joint.options import JointOptions
from engine.matrices import Matrix
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.subject import Subject
from engine.training import students
from engine.training.options import DistillOptions, SparseTrainOptions
from engine.workspace import Workspace


@dataclass(frozen=True)
class Foreseen:
    """A step and the workspace it will meet; `matrices` are None where an earlier step takes parts out that nobody knows yet
    (the workspace has the model before that); `student` is the model that it leaves, as far as it is another one.
    """

    options: StepOptions
    workspace: Workspace
    matrices: list[Matrix] | None
    student: Subject

    @property
    def finished(self) -> bool:
        """Whether an earlier process has done it."""
        return self.workspace.finished() is not None


def steps(workspace: Workspace, matrices: list[Matrix]) -> list[Foreseen]:
    """The run's steps. Raises UsageError or Unavailable for a student that cannot be."""
    known: list[Matrix] | None = matrices
    found = []
    for index, options in enumerate(workspace.profile.step):
        workspace = replace(workspace, step=index)
        student = workspace.subject
        if isinstance(options, DistillOptions) and (known is not None or options.other_student):
            student = students.student_of(workspace, options)
        found.append(Foreseen(options, workspace, known, student))
        if any(how.structure for how in prunings(options)):
            known = None
        elif student is not workspace.subject:
            known, workspace = few(student).matrices, replace(workspace, subject=student)
    return found


def prunings(step: StepOptions) -> list[PruneOptions]:
    """Every way in which a step prunes the model that it finds."""
    if isinstance(step, JointOptions):
        return step.prunings
    if isinstance(step, SparseTrainOptions):  # what is begun anew meets a threshold with other weights
        return [] if step.start == "scratch" and step.threshold is not None else [step.pruning]
    return [step] if isinstance(step, PruneOptions) else []


def few(subject: Subject) -> Walk:
    """A walk over as little as shows the model's matrices."""
    inputs = torch.zeros(1, 8, dtype=torch.long)
    if subject.features is not None:
        inputs = torch.from_numpy(subject.features.x[:1]).to(subject.dtype)
    return Walk(subject, inputs, 1, torch.float32)
