"""The `export` step: write to a temporary folder, rename, reload, measure, compare."""

from __future__ import annotations

from typing import Any

from engine import events as ev
from engine import files
from engine.export.options import ExportOptions
from engine.export.verify import verify
from engine.registry import FORMATS
from engine.subject import DTYPES
from engine.workspace import Workspace


def run(workspace: Workspace, options: ExportOptions) -> dict[str, Any]:
    """Writes artifacts/model; returns its size and what verification found."""
    dtype = DTYPES[workspace.profile.model.dtype if options.dtype == "auto" else options.dtype]
    folder = workspace.artifact("model")
    write = FORMATS.load(options.format).write
    files.write_folder(folder, lambda part: write(workspace.subject, part, dtype))
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    workspace.emit(
        ev.ArtifactWritten(step=workspace.step, path=f"artifacts/{folder.name}", format=options.format, bytes=size)
    )
    summary = {"path": str(folder), "bytes": size, "dtype": str(dtype).removeprefix("torch.")}
    if options.verify:
        summary |= verify(workspace, folder, options, str(summary["dtype"]))
    workspace.emit(ev.Metric(step=workspace.step, stage="exported", name="bytes", value=size, unit="B"))
    return summary
