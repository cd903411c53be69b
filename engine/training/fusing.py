"""Student and teacher in one: their weights' weighted mean on the kept mask (as Wortsman et al. 2021, arXiv 2109.01903, mix a
fine-tuned model with the one it came from), by the share that held-out data asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from engine.errors import UsageError
from engine.subject import Subject
from engine.training.learning import Learning
from engine.training.masking import Mask
from engine.training.teacher import Lesson


def check_fusable(lesson: Lesson, student: Subject) -> None:
    """Raises UsageError, before anything is trained, when a weight has no match in the teacher."""
    theirs, mine = (
        {name: weight.shape for name, weight in subject.module.named_parameters()}
        for subject in (lesson.model(), student)
    )
    for name in [*mine, *theirs]:
        if theirs.get(name) != mine.get(name):
            message = f"{name} has no match to be fused with: student and teacher are not of one shape"
            raise UsageError(message, where=f"step.{lesson.workspace.step}.fuse", hint="fuse = []")


def choose_share(
    lesson: Lesson, learning: Learning, weights: Sequence[nn.Parameter], masks: Sequence[Mask], best: float
) -> tuple[float, float]:  # fmt: skip
    """Leaves the weights M * ((1 - s) student + s teacher) with the share s of lowest held-out loss, 0 among them; s and the
    loss.
    """
    options = lesson.options
    if not options.fuse:
        return 0.0, best
    students = [weight.detach().clone() for weight in weights]
    theirs = dict(lesson.model().module.named_parameters())
    teachers = [theirs[name].detach() for name, _ in learning.subject.module.named_parameters()]
    losses = {0.0: best}
    for share in options.fuse:
        mix(weights, students, teachers, masks, share)
        losses[share] = learning.held_out(options.micro_batch or options.batch)
        lesson.workspace.log(f"with {share:g} of the teacher's weights the held-out loss is {losses[share]:.4g}")
    share = min(losses, key=lambda one: losses[one])
    mix(weights, students, teachers, masks, share)
    return share, losses[share]


@torch.no_grad()
def mix(
    weights: Sequence[nn.Parameter], students: Sequence[torch.Tensor], teachers: Sequence[torch.Tensor],
    masks: Sequence[Mask], share: float
) -> None:  # fmt: skip
    """Puts the mean in place; what is removed stays removed."""
    for weight, student, teacher, mask in zip(weights, students, teachers, masks, strict=True):
        mixed = student if share == 0 else torch.lerp(student, teacher.float(), share)
        weight.data.copy_(mixed if mask is None else mixed * mask)
