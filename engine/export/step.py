"""The `export` step: write to a temporary folder, rename, reload, measure, compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import events as ev
from engine import files
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.export.verify import verify
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.quantization.grid import Format
from engine.quantization.options import QuantizeOptions
from engine.quantization.step import format_of
from engine.registry import FORMATS
from engine.subject import DTYPES
from engine.workspace import Workspace


def run(workspace: Workspace, options: ExportOptions) -> dict[str, Any]:
    """Writes artifacts/model; returns its size and what verification found."""
    dtype = DTYPES[workspace.profile.model.dtype if options.dtype == "auto" else options.dtype]
    folder = workspace.artifact("model")
    form: ExportFormat = FORMATS.load(options.format).FORMAT
    form.check(workspace.subject, quantized_format(workspace.profile.step[: workspace.step]))
    if not form.zeros and any(isinstance(step, PruneOptions) for step in workspace.profile.step[: workspace.step]):
        workspace.log(f"{options.format} holds no exact zeros: removed weights come out as nearly zero", "warning")
    files.write_folder(folder, lambda part: form.write(workspace.subject, part, dtype))
    size = form.bytes(folder)
    workspace.emit(
        ev.ArtifactWritten(step=workspace.step, path=f"artifacts/{folder.name}", format=options.format, bytes=size)
    )
    summary = {"path": str(folder), "bytes": size, "dtype": str(dtype).removeprefix("torch.")}
    if options.verify:
        summary |= verify(workspace, form, folder, options, str(summary["dtype"]))
    workspace.emit(ev.Metric(step=workspace.step, stage="exported", name="bytes", value=size, unit="B"))
    return summary


def check_options(workspace: Workspace, index: int, options: ExportOptions) -> None:
    """Raises UsageError, before any work, when the format cannot hold what the steps before this one make."""
    form: ExportFormat = FORMATS.load(options.format).FORMAT
    form.check(workspace.subject, quantized_format(workspace.profile.step[:index]))


def quantized_format(before: Sequence[StepOptions]) -> Format | None:
    """The format of the last quantize step among these."""
    found = [format_of(step) for step in before if isinstance(step, QuantizeOptions)]
    return found[-1] if found else None
