"""The `distill` step: a student learns to answer as its teacher does; what pruning removed from it stays away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from engine.errors import UsageError
from engine.subject import Subject
from engine.training import course, students
from engine.training.batches import batch_at
from engine.training.fusing import check_fusable, choose_share
from engine.training.learning import Learning, answers, number_format
from engine.training.losses import Predictions, distilled, hidden_distance, in_pieces
from engine.training.masking import FixedMasks, trainable
from engine.training.material import Material, material
from engine.training.options import DistillOptions
from engine.training.recover import block_ends
from engine.training.teacher import Lesson, Loaded, Teacher, teacher_of
from engine.workspace import Workspace


@dataclass(frozen=True)
class Imitation:
    """The loss of a student beside its teacher; `pairs` are the teacher's blocks whose states the student's are to have, in the
    hidden dimensions `kept`.
    """

    teacher: Teacher
    options: DistillOptions
    pairs: Sequence[int] = ()
    kept: Sequence[int] | None = None

    def __call__(self, found: Predictions) -> torch.Tensor:
        """Summed over all predictions."""
        options, view = self.options, self.teacher.view(found.items)
        compared = [view.log_TK] if view.ids_TK is None else [view.log_TK, view.ids_TK]
        loss = partial(distilled, how=options, vocabulary=self.teacher.vocabulary)
        total = in_pieces(loss, found.logits_PV, found.targets_P, *compared)
        if not options.hidden:
            return total
        states = self.teacher.hidden(found.items)
        wanted = [states[i] if self.kept is None else states[i][..., self.kept] for i in self.pairs]
        return total + options.hidden * len(found.targets_P) * hidden_distance(found.hidden, wanted)


def run(workspace: Workspace, options: DistillOptions) -> dict[str, Any]:
    """Trains the student, which is the workspace's model from then on; returns the step's summary."""
    before, lesson = workspace.subject, Lesson(workspace, options)
    if options.fuse:
        check_fusable(lesson, before)
    student = students.student_of(workspace, options)
    found = material(workspace, options)
    compute = number_format(student, options)
    teacher, told = teacher_of(lesson, found, met(workspace, found, options), student, compute)
    learning = Learning.of(student, found, imitation(workspace, options, teacher, student), options, options.hidden > 0)
    workspace.subject = student
    with trainable(student.module) as (weights, masks):
        standing = course.trained(workspace, options, learning, weights, FixedMasks(weights, masks))
        share, loss = choose_share(lesson, learning, weights, masks, standing.best)
    course.keep(workspace)
    if student is not before and before.is_language_model:
        students.announce(workspace, options, len(before.blocks()))
    summary = course.summary(workspace, options, standing) | {"held_out_after": loss}
    return {"teacher": options.teacher, **summary, **told, **({"fused": share} if options.fuse else {})}


def restore(workspace: Workspace, options: DistillOptions) -> None:
    """Puts the weights of a finished step back."""
    workspace.subject = students.student_of(workspace, options)
    course.put_back(workspace)


def met(workspace: Workspace, found: Material, options: DistillOptions) -> list[int]:
    """The items that the training will ask the teacher about."""
    size, seed = course.pace(workspace, options).batch, workspace.profile.seed
    trained = (batch_at(found.train, size, seed, step) for step in range(options.steps))
    return sorted({*found.held, *(item for batch in trained for item in batch)})


def imitation(workspace: Workspace, options: DistillOptions, teacher: Teacher, student: Subject) -> Imitation:
    """Raises UsageError when the two have other classes, or states that cannot be compared."""
    if not isinstance(teacher, Loaded):
        return Imitation(teacher, options)
    theirs = teacher.subject
    if not student.is_language_model:
        check_classes(teacher, student)
        return Imitation(teacher, options)
    if not options.hidden:
        return Imitation(teacher, options)
    pairs = block_ends(student, len(theirs.blocks()))
    wide = [width(subject) for subject in (theirs, student)]
    kept = student.origin.hidden
    if len(pairs) != len(student.blocks()) or (wide[1] != wide[0] if kept is None else len(kept) != wide[1]):
        message = "the states behind the student's blocks are of another width or number than the teacher's"
        raise UsageError(message, where=f"step.{workspace.step}.hidden", hint="hidden = 0")
    return Imitation(teacher, options, pairs, kept)


def check_classes(teacher: Loaded, student: Subject) -> None:
    """Raises UsageError when the modules do not answer with as many classes."""
    counts = [
        answers(one, teacher.material, [0], torch.float32).logits_PV.shape[1] for one in (teacher.subject, student)
    ]
    if counts[0] != counts[1]:
        message = f"the teacher answers with {counts[0]} classes and the student with {counts[1]}"
        raise UsageError(message, where="step.teacher")


def width(subject: Subject) -> int:
    """Hidden dimensions of a language model."""
    module: Any = subject.module
    return int(module.get_input_embeddings().weight.shape[1])
