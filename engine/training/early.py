"""What of a training is known to fail before the first long work: its data, lengths of windows, a teacher that is not there or
does not fit, weights that cannot be begun anew.
"""

from __future__ import annotations

from pathlib import Path

from engine import inspection
from engine.errors import UsageError, naming
from engine.model import is_local, tokenizer
from engine.subject import Subject
from engine.training import room, sparse
from engine.training.material import check_features
from engine.training.options import TASK, DistillOptions, RecoverOptions, SparseTrainOptions, TrainingOptions
from engine.training.recover import check_blockwise
from engine.training.teacher import check_fit, check_tokenizers, subject_of
from engine.workspace import Workspace


def check(workspace: Workspace, options: TrainingOptions, student: Subject) -> None:
    """Raises UsageError or Unavailable; `student` is who will be trained."""
    if isinstance(options, RecoverOptions) and options.method == "blockwise":
        check_blockwise(workspace)
        return
    if isinstance(options, SparseTrainOptions) and options.start == "scratch":
        sparse.check_anew(workspace)
    check_data(workspace, options, student)
    if isinstance(options, DistillOptions):
        check_teacher(workspace, options, student)


def check_data(workspace: Workspace, options: TrainingOptions, student: Subject) -> None:
    """The rows of a task are looked at elsewhere, the run's calibration data too."""
    if not workspace.subject.is_language_model:
        check_features(workspace, options)
    elif options.data != "calibration" and not options.data.startswith(TASK):
        with naming(f"step.{workspace.step}.data", options.data):
            workspace.text(options.data, "calibration")
        room.check(student, *window(workspace, options))


def check_teacher(workspace: Workspace, options: DistillOptions, student: Subject) -> None:
    """By its headers and its tokenizer where it is a language model's folder; what a hub's name or a GGUF file holds shows when
    it is loaded.
    """
    source, where = options.teacher, f"step.{workspace.step}.teacher"
    if source == "dense":
        return
    with naming(where, source):
        if source.startswith(("builtin:", "python:")):
            check_fit(subject_of(workspace, options), student)
        elif not student.is_language_model:
            raise UsageError("the teacher is a language model and the student another module")
        elif is_local(source):
            room.check_limit(
                inspection.inspect(source).config.get("max_position_embeddings"), *window(workspace, options)
            )
            if Path(source).is_dir():
                check_tokenizers(tokenizer(source), student.tokenizer)


def window(workspace: Workspace, options: TrainingOptions) -> tuple[int, str]:
    """Tokens of a window of the data, and the key that says so; rows of a task are as long as they are."""
    if options.data == "calibration":
        return workspace.profile.calibration.length, "calibration.length"
    return 0 if options.data.startswith(TASK) else options.length, f"step.{workspace.step}.length"
