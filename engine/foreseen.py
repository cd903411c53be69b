"""Which model every step will meet, as far as that is known before the first of them: the student that a step puts in the
model's place, and the shapes that are left where a step takes parts out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from engine.calibration import Walk
from engine.joint.options import JointOptions
from engine.matrices import Matrix
from engine.options import StepOptions
from engine.pruning import structured
from engine.pruning.configs import Changes, changed, empty
from engine.pruning.options import PruneOptions
from engine.quantization.grid import Indivisible
from engine.subject import Subject
from engine.training import students
from engine.training.options import DistillOptions, SparseTrainOptions
from engine.workspace import Workspace

MULTIPLE = ("channels", "hidden")
"""patterns of which a multiple stays"""


@dataclass(frozen=True)
class Shaped:
    """A model of which only the shapes count: it may be empty, its weights without memory. `narrowed` has the widths that
    weights had before a step whose `multiple` decides on them.
    """

    subject: Subject
    matrices: list[Matrix]
    narrowed: Mapping[str, int] = field(default_factory=dict)

    @contextmanager
    def hinting(self) -> Iterator[None]:
        """Errors from inside over a width that pruning decides on hint at the multiple that would do."""
        try:
            yield
        except Indivisible as error:
            if self.narrowed.get(str(error.where), 0) > error.size:
                error.hint = f"multiple = {error.size} in the prune step, or {error.hint}"
            raise


@dataclass(frozen=True)
class Foreseen:
    """A step and the workspace it will meet; `matrices` are None behind a step that takes parts out (the workspace has the
    model before that); `student` is the model that it leaves, as far as it is another one; `before` is the step before.
    """

    options: StepOptions
    workspace: Workspace
    matrices: list[Matrix] | None
    student: Subject
    before: Foreseen | None = None
    _changes: dict[float, Changes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def finished(self) -> bool:
        """Whether an earlier process has done it."""
        return self.workspace.finished() is not None

    @cached_property
    def met(self) -> Shaped | None:
        """The shapes that it will meet; None where nobody knows them yet."""
        if self.matrices is not None:
            return Shaped(self.workspace.subject, self.matrices)
        return self.before.left if self.before is not None else None

    @cached_property
    def left(self) -> Shaped | None:
        """The shapes that it will leave. Raises UsageError for parts that cannot be taken out."""
        met, how = self.met, self.options
        if isinstance(how, DistillOptions) and how.student != "model":
            return None  # a copy with some of its blocks; another model has matrices
        if not any(one.structure for one in prunings(how)):
            return met
        if met is None or self.matrices is None or not isinstance(how, PruneOptions):
            return None  # a second time, or at the level that a walk will end with
        if how.structure == "blocks" and not alike(met.subject):
            return None
        return smaller(met, self.changes(how), how)

    def changes(self, how: PruneOptions) -> Changes:
        """What taking parts out, one of its prunings, makes of the configuration. Raises UsageError where that cannot be."""
        if how.amount not in self._changes:
            self._changes[how.amount] = structured.check(self.workspace, how)
        return self._changes[how.amount]


def steps(workspace: Workspace, matrices: list[Matrix]) -> list[Foreseen]:
    """The run's steps. Raises UsageError or Unavailable for a student that cannot be."""
    known: list[Matrix] | None = matrices
    found: list[Foreseen] = []
    for index, options in enumerate(workspace.profile.step):
        workspace = replace(workspace, step=index)
        student = workspace.subject
        if isinstance(options, DistillOptions) and (known is not None or options.other_student):
            student = students.student_of(workspace, options)
        found.append(Foreseen(options, workspace, known, student, found[-1] if found else None))
        if any(how.structure for how in prunings(options)):
            known = None
        elif student is not workspace.subject:
            known, workspace = few(student).matrices, replace(workspace, subject=student)
    return found


def alike(subject: Subject) -> bool:
    """Whether all blocks have the same shapes, so that it does not matter which of them stay."""
    return len({tuple((name, p.shape) for name, p in block.named_parameters()) for block in subject.blocks()}) == 1


def smaller(met: Shaped, changes: Changes, how: PruneOptions) -> Shaped:
    """The empty model with these keys of the configuration changed, as the step will build it, and its matrices."""
    subject = met.subject
    module = empty(changed(subject.module.config, changes)).to(subject.dtype)
    old, new = (dict(one.named_parameters(remove_duplicate=False)) for one in (subject.module, module))
    narrowed = {}
    if how.pattern in MULTIPLE:
        narrowed = {name: p.shape[-1] for name, p in old.items() if p.shape[-1] != new[name].shape[-1]}
    matrices = [made for matrix in met.matrices if (made := resized(matrix, old, new)) is not None]
    return Shaped(replace(subject, module=module, stream=None, quantized=None), matrices, narrowed)


def resized(matrix: Matrix, old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]) -> Matrix | None:
    """The matrix in a model of other shapes; None where its block or its expert is gone."""
    name, _, expert = matrix.name.removesuffix("]").partition("[")
    if name not in new or (expert and int(expert) >= len(new[name])):
        return None
    before, after = (one[name][int(expert)] if expert else one[name] for one in (old, new))
    as_stored = matrix.weight.shape == before.shape and matrix.weight.stride() == before.stride()
    return replace(matrix, weight=after.detach() if as_stored else after.detach().t())


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
