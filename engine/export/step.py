"""The `export` step: write to a temporary folder, rename, reload, measure, compare."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from engine import archive, figures, files
from engine import events as ev
from engine.archive import Measured
from engine.errors import UsageError
from engine.evaluation.measure import sparsity
from engine.export import reference
from engine.export.format import ExportFormat, check_range, need_language_model
from engine.export.options import ExportOptions
from engine.export.verify import exported_stage, verify
from engine.options import StepOptions
from engine.profile import source
from engine.quantization.grid import Format, Indivisible
from engine.quantization.options import QuantizeOptions
from engine.quantization.step import format_of
from engine.registry import FORMATS, STEPS
from engine.subject import DTYPES, Subject
from engine.workspace import Workspace

SPARSE = 0.01
"""share of zeros from which on a model is taken for a pruned one; dense ones have a few by chance (the demo 0.03%)"""


def run(workspace: Workspace, options: ExportOptions) -> dict[str, Any]:
    """Writes artifacts/model; returns its size and what verification found."""
    folder = workspace.artifact("model")
    form = check_format(workspace.subject, options, workspace.profile.step[: workspace.step])
    dtype = stored_in(form, options, workspace.subject.dtype)
    warn_of_zeros(workspace, form, options)
    files.write_folder(folder, lambda part: form.write(workspace.subject, part, dtype))
    for doubt in form.doubts(workspace.subject):
        workspace.log(doubt, "warning")
    size = form.bytes(folder)
    beside = folder / form.script.name if form.script else None
    script = beside.read_text(encoding="utf-8") if beside and beside.is_file() else ""
    path = f"artifacts/{folder.name}"
    workspace.emit(ev.ArtifactWritten(step=workspace.step, path=path, format=options.format, bytes=size, script=script))
    summary = {"path": str(folder), "bytes": size, "dtype": str(dtype).removeprefix("torch.")}
    if options.verify:
        summary |= verify(workspace, form, folder, options, str(summary["dtype"]))
    stage = exported_stage(workspace, options)
    workspace.emit(ev.Metric(step=workspace.step, stage=stage, name="bytes", value=size, unit="B"))
    dense = workspace.state.metrics.get("dense", {}).get("parameters")
    parameters = int(dense.value) if dense else workspace.subject.parameters
    reason = reference.unwanted(options, workspace.subject, workspace.profile.step[: workspace.step], size, parameters)
    if reason is None:
        reference.measure(workspace, stage, size, form.bits(dtype, None, 1)[1] / 8)
    else:
        workspace.emit(ev.ReferenceSkipped(step=workspace.step, stage=stage, reason=reason))
    if options.verify:
        keep(workspace, noted(workspace, options, stage, folder, size))
    return summary


def warn_of_zeros(workspace: Workspace, form: ExportFormat, options: ExportOptions) -> None:
    """Says, once, that the format does not hold the zeros that the model has by pruning, in this run or before it."""
    share = 0.0 if form.zeros else pruned_share(workspace)
    what = f"the {figures.share(share)} of the weights that are zero come out as nearly zero"
    message = f"{options.format} holds no exact zeros: {what}"
    if share >= SPARSE and message not in {log.message for log in workspace.state.log}:
        workspace.log(message, "warning")


def pruned_share(workspace: Workspace) -> float:
    """Of zeros in the model; in a quantized one, where a code of zero is common, as it was before that."""
    if workspace.subject.quantized is None:
        return sparsity(workspace.subject)
    metrics, stages = workspace.state.metrics, {"dense", *(entry.stage for entry in STEPS.values())} - {"quantized"}
    found = [metrics[stage]["sparsity"].value for stage in metrics if stage.partition("-")[0] in stages]
    return found[-1] if found else 0.0


def keep(workspace: Workspace, artifact: Measured) -> None:
    """Adds it to the archive; a run does not fail with that."""
    try:
        archive.add(artifact)
    except (OSError, sqlite3.Error) as error:
        workspace.log(f"the archive of artifacts cannot be written: {error}", "warning")


def noted(workspace: Workspace, options: ExportOptions, stage: str, folder: Path, size: int) -> Measured:
    """The artifact as the archive keeps it."""
    profile, metrics = workspace.profile, workspace.state.metrics[stage]
    evaluate = profile.evaluate
    perplexity, decode = (metrics.get(name) for name in ("perplexity", "decode_tokens_per_second"))
    before = [step for step in profile.step[: workspace.step] if STEPS[step.use].stage]
    return Measured(
        model=source(profile.model.source), profile=profile.name,
        run=str(workspace.run.path.resolve()), path=f"artifacts/{folder.name}",
        text=f"{evaluate.perplexity}, {evaluate.windows} windows of {evaluate.length} from {evaluate.start}",
        format=options.format, steps=", ".join(words(step) for step in before) or "dense", time=time.time(),
        device=str(workspace.subject.device), threads=profile.threads or torch.get_num_threads(), bytes=size,
        perplexity=perplexity.value if perplexity else None, decode=decode.value if decode else None,
        low=perplexity.low if perplexity else None, high=perplexity.high if perplexity else None,
        losses=tuple(perplexity.losses) if perplexity else (), data=perplexity.data if perplexity else "",
    )  # fmt: skip


def words(step: StepOptions) -> str:
    """A step and what it was told, shortly: prune 0.5 sparsegpt."""
    chosen = step.model_dump(exclude_defaults=True, exclude={"use"})
    return " ".join([step.use, *(str(value) for value in chosen.values() if isinstance(value, str | int | float))])


def check_options(workspace: Workspace, index: int, options: ExportOptions, made: Subject | None) -> None:
    """Raises UsageError, before any work, when the format cannot hold what the steps before this one make.

    `made` has the shapes that this model will have; None where they are not known.
    """
    before = workspace.profile.step[:index]
    form: ExportFormat = FORMATS.load(options.format).FORMAT
    with suppress(Indivisible) if made is None else nullcontext():
        check_format(made or workspace.subject, options, before)
    warn_of_zeros(workspace, form, options)
    if form.codes and workspace.subject.is_language_model:
        check_codes(before)
    wanted = stored_in(form, options, workspace.subject.dtype)
    if options.dtype != "auto" and wanted != DTYPES[options.dtype]:
        workspace.log(
            f"{options.format} has number formats of its own: dtype = {options.dtype} changes nothing", "warning"
        )
    check_range(workspace.subject, form, options.format, wanted)
    if options.reference:
        need_language_model(workspace.subject, "a reference")
    if options.verify and workspace.subject.stream is not None and form.read is not None and not form.streams:
        message = f"{options.format} is read back whole, and this model is read block by block"
        hint = 'verify = false, or model.memory = "resident"'
        raise UsageError(message, where=f"step.{index}.verify", hint=hint)


def stored_in(form: ExportFormat, options: ExportOptions, computed: torch.dtype) -> torch.dtype:
    """The number format asked for, else that of the model in memory: in it a file with formats of its own is read back."""
    return DTYPES[options.dtype] if form.typed and options.dtype != "auto" else computed


def check_format(subject: Subject, options: ExportOptions, before: Sequence[StepOptions]) -> ExportFormat:
    """The step's format. Raises UsageError when it cannot hold the model that these steps make."""
    form: ExportFormat = FORMATS.load(options.format).FORMAT
    codes = quantized_format(before)
    if codes is not None and codes.inputs and not form.inputs:
        message = f"{options.format} cannot say that the layers' inputs are rounded"
        hint = 'format = "compressed_tensors", or activations = "none" in the quantize step'
        raise UsageError(message, where="step.format", hint=hint)
    form.check(subject, codes)
    return form


def check_codes(before: Sequence[StepOptions]) -> None:
    """Refuses codes of weights that a later step changes."""
    uses = [step.use for step in before]
    if "quantize" not in uses:
        return
    last = len(uses) - 1 - uses[::-1].index("quantize")
    for index in range(last + 1, len(uses)):
        if STEPS[uses[index]].stage:
            message = f"{uses[index]} changes the weights that step {last + 1} quantizes, and the file holds its codes"
            hint = "let quantize be the last step that changes weights"
            raise UsageError(message, where=f"step.{index}.use", hint=hint)


def quantized_format(before: Sequence[StepOptions]) -> Format | None:
    """The format of the last quantize step among these."""
    found = [format_of(step) for step in before if isinstance(step, QuantizeOptions)]
    return found[-1] if found else None
