"""What the dense model is worth when it is only quantized, to about the bytes of an artifact: the figure to hold it against."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from engine import events as ev
from engine.calibration import Walk
from engine.evaluation.measure import Measurement
from engine.export.options import ExportOptions
from engine.matrices import Matrix, Statistics
from engine.options import StepOptions
from engine.outcome import REFERENCE
from engine.quantization.grid import GROUPS, Format
from engine.quantization.method import Method, Settings
from engine.quantization.options import WIDTHS
from engine.registry import METHODS, STEPS
from engine.statistics import mean_difference
from engine.subject import Subject
from engine.workspace import Workspace

METHOD = "gptq"
LARGEST = 10**9
"""weights of a model of which a reference is made unasked"""
HALF = 2.0
"""bytes of a weight in half precision: an artifact that takes as many is not what integers are held against"""


def wanted(options: ExportOptions, subject: Subject, before: Sequence[StepOptions], size: float, dense: int) -> bool:
    """Whether an artifact of so many bytes, of a model with `dense` parameters at first, is held against the reference."""
    return unwanted(options, subject, before, size, dense) is None


def unwanted(
    options: ExportOptions, subject: Subject, before: Sequence[StepOptions], size: float, dense: int
) -> str | None:
    """Why it is not; None where it is."""
    if options.reference is not None:
        return None if options.reference else "reference is false"
    reasons = {
        "this is no language model": not subject.is_language_model,
        "the file was not measured (verify = false)": not options.verify,
        "no step but quantize changed the weights": not _changed(before),
        "the file takes 16 bits or more for each of its weights": size >= HALF * dense,
        "the model is read block by block": subject.stream is not None,
        f"it has more than {LARGEST // 10**6:,} million weights": dense > LARGEST,
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    return f"{found}; reference = true does it" if found and subject.is_language_model else found


def _changed(before: Sequence[StepOptions]) -> bool:
    return any(STEPS[step.use].stage and step.use != "quantize" for step in before)


def measure(workspace: Workspace, stage: str, size: int, number: float) -> None:
    """Quantizes the dense model anew and emits its perplexity, accuracies and bytes as a stage of its own; then both side by
    side. The artifact has `size` bytes, `number` for a weight that is not quantized, and is measured as `stage`.
    """
    # the first: later ones are of smaller models
    loaded = next(event for event in workspace.run.events() if isinstance(event, ev.ModelLoaded))
    shapes = [(int(matrix["shape"][0]), int(matrix["shape"][1])) for matrix in loaded.matrices]
    form, taken = nearest(loaded.parameters, shapes, size, number)
    name = f"{REFERENCE}{form.bits} g{form.group or 'row'}"
    known = workspace.state.metrics.get(name, {}).get("bytes")
    if known is None or known.value != taken:
        dense = workspace.dense_subject()
        quantize(workspace, Walk.over(workspace, dense), form)
        figures(workspace, dense, name, taken)
    mine, other = (workspace.state.metrics.get(one, {}).get("perplexity") for one in (stage, name))
    told = ev.ReferenceMeasured(
        step=workspace.step, stage=stage, bytes=size, perplexity=mine.value if mine else None,
        perplexity_low=mine.low if mine else None, perplexity_high=mine.high if mine else None,
        reference=name, reference_bytes=taken, reference_perplexity=other.value if other else None,
        reference_low=other.low if other else None, reference_high=other.high if other else None,
        **(paired(mine.losses, other.losses) if mine and other else {}),
    )  # fmt: skip
    workspace.emit(told)


def paired(mine: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """The difference of log-perplexity over windows, where both were measured on the same."""
    found = mean_difference(mine, other)
    return dict(zip(("difference", "difference_low", "difference_high"), found, strict=True)) if found else {}


def quantize(workspace: Workspace, walk: Walk, form: Format) -> None:
    """All matrices of the walk's model, in place."""
    method: Method = METHODS.load(METHOD).METHOD

    def act(matrices: list[Matrix], statistics: Statistics) -> None:
        for matrix in matrices:
            matrix.weight.copy_(method.apply(matrix.weight, statistics, form, Settings()).values())

    for block in walk.run(lambda index: act, want_gram=True):
        workspace.progress("quantizing the dense model", block + 1, walk.blocks(), "blocks")


def figures(workspace: Workspace, dense: Subject, stage: str, taken: int) -> None:
    """The bytes last: with them all are there."""
    evaluate = workspace.profile.evaluate
    found = Measurement(workspace, dense, evaluate, stage)
    found.perplexity()
    for task in evaluate.tasks:
        found.task(task)
    found.emit("bytes", taken, "B")


def nearest(parameters: int, shapes: Sequence[tuple[int, int]], size: int, number: float) -> tuple[Format, int]:
    """The format with which the file of so many parameters, among them matrices [O, I] of these shapes, would be nearest to so
    many bytes, and its bytes; the coarser of two that are as near.
    """
    other = parameters - sum(rows * columns for rows, columns in shapes)
    fitting = [group for group in (0, *GROUPS) if all(columns % (group or 1) == 0 for _, columns in shapes)]
    forms = [Format(bits, group, False) for bits, group in itertools.product(WIDTHS, fitting)]

    def taken(form: Format) -> int:
        bits = sum(form.bits_a_weight(columns) * rows * columns for rows, columns in shapes)
        return round(bits / 8 + number * other)

    chosen = min(forms, key=lambda form: abs(taken(form) - size))
    return chosen, taken(chosen)
