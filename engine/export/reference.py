"""What the dense model is worth when it is only quantized, to about the bytes of an artifact: the figure to hold it against."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from engine.calibration import Walk
from engine.evaluation.measure import Measurement
from engine.matrices import Matrix, Statistics
from engine.quantization.grid import GROUPS, Format
from engine.quantization.method import Method, Settings
from engine.quantization.options import WIDTHS
from engine.registry import METHODS
from engine.subject import Subject
from engine.workspace import Workspace

METHOD = "gptq"


def measure(workspace: Workspace, size: int, number: float) -> None:
    """Quantizes the dense model anew and emits its bytes, perplexity and accuracies as a stage of its own; `size` are the
    artifact's bytes, `number` those that it takes for a weight that is not quantized.
    """
    dense = workspace.dense_subject()
    walk = Walk.over(workspace, dense)
    form, taken = nearest(dense, walk.matrices, size, number)
    method: Method = METHODS.load(METHOD).METHOD

    def act(matrices: list[Matrix], statistics: Statistics) -> None:
        for matrix in matrices:
            matrix.weight.copy_(method.apply(matrix.weight, statistics, form, Settings()).values())

    for block in walk.run(lambda index: act, want_gram=True):
        workspace.progress("quantizing the dense model", block + 1, walk.blocks(), "blocks")
    evaluate = workspace.profile.evaluate
    found = Measurement(workspace, dense, evaluate, f"dense int{form.bits} g{form.group or 'row'}")
    found.emit("bytes", taken, "B")
    found.perplexity()
    for task in evaluate.tasks:
        found.task(task)


def nearest(subject: Subject, matrices: Sequence[Matrix], size: int, number: float) -> tuple[Format, int]:
    """The format whose file would be nearest to so many bytes, and its bytes; the coarser of two that are as near."""
    other = subject.parameters - sum(matrix.weight.numel() for matrix in matrices)
    fitting = [group for group in (0, *GROUPS) if all(m.shape[1] % (group or 1) == 0 for m in matrices)]
    forms = [Format(bits, group, False) for bits, group in itertools.product(WIDTHS, fitting)]

    def taken(form: Format) -> int:
        bits = sum(form.bits_a_weight(matrix.shape[1]) * matrix.weight.numel() for matrix in matrices)
        return round(bits / 8 + number * other)

    chosen = min(forms, key=lambda form: abs(taken(form) - size))
    return chosen, taken(chosen)
