"""Who is taught: the model as it is, a copy with some of its blocks, or another model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine import events as ev
from engine.errors import UsageError, naming
from engine.model import load
from engine.pruning.structured import Smaller, built
from engine.pruning.structures.blocks import configuration, renamed
from engine.subject import Origin, Subject
from engine.training.options import DistillOptions
from engine.training.teacher import check_kinds, check_tokenizers
from engine.workspace import Workspace

NAMES = ("student", "model")


def student_of(workspace: Workspace, options: DistillOptions) -> Subject:
    """The step's student, as it begins; the workspace's own model is not changed."""
    subject, student, where = workspace.subject, options.student, f"step.{workspace.step}.student"
    if student == "model":
        return subject
    if isinstance(student, str) and options.other_student:
        with naming(where, student):
            return other(workspace, student)
    if not subject.is_language_model:
        raise UsageError("only a language model has blocks to choose from", where=where, hint='student = "model"')
    stay = kept_blocks(student, len(subject.blocks()), where)
    return built(subject, Smaller(configuration(subject, stay), renamed(subject, stay), Origin(blocks=stay)))


def other(workspace: Workspace, source: str) -> Subject:
    """Another model in the place of the workspace's, to be trained and measured on what that one is."""
    subject, how = workspace.subject, workspace.profile.model.model_copy(update={"source": source})
    found = load(how, seed=workspace.profile.seed, allow_code=workspace.allow_code)
    check_kinds(found, subject, NAMES)
    if not subject.is_language_model:
        return replace(found, features=subject.features)
    check_tokenizers(found.tokenizer, subject.tokenizer, NAMES)
    return found


def kept_blocks(student: str | list[int], count: int, where: str) -> list[int]:
    """The numbers of the blocks that stay. Raises UsageError for blocks that the model does not have."""
    if isinstance(student, str):
        return list(range(0, count, 2))
    stay = sorted(set(student))
    if not stay or stay[-1] >= count:
        raise UsageError(
            f"the model has blocks 0 to {count - 1}", where=where, hint='or student = "every-second-block"'
        )
    return stay


def announce(workspace: Workspace, options: DistillOptions, before: int) -> None:
    """Says which blocks of so many have gone from the model that the student is a copy of."""
    if options.other_student:
        return
    stay = kept_blocks(options.student, before, f"step.{workspace.step}.student")
    gone = [index for index in range(before) if index not in stay]
    if gone:
        told: dict[str, Any] = {"part": "blocks", "block": None, "removed": gone, "of": before, "error": None}
        workspace.emit(ev.PartsRemoved(step=workspace.step, seconds=0.0, done=1, total=1, **told))
