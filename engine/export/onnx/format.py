"""The ONNX export formats: which of the two writers, with how many bits."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.errors import UsageError
from engine.export.format import ExportFormat, of_any_size
from engine.export.onnx import decoder, module
from engine.quantization.grid import Format
from engine.subject import Subject

OUTSIDE = {None: 32.0, 8: 41.25, 4: 9.25}
"""bits of a weight in the embeddings and the head, which is rounded to eight bits with scales in float32; beside codes of
eight bits the builder keeps the embeddings in float32 too
"""
SCRIPT = Path(__file__).with_name("run_onnx.py")


def onnx_format(bits: int | None) -> ExportFormat:
    """With weights of so many bits, or (None) in float32."""

    def check(subject: Subject, form: Format | None) -> None:
        if subject.is_language_model:
            decoder.check(subject, form, bits)
        elif bits == 4:
            hint = 'format = "onnx_int8"'
            raise UsageError("onnx_int4 holds language models only", where=subject.source, hint=hint)
        else:
            module.check(subject)

    def write(subject: Subject, folder: Path, dtype: object) -> None:
        if not subject.is_language_model:
            module.write(subject, folder, bits)
            return
        decoder.write(subject, folder, bits)
        shutil.copyfile(SCRIPT, folder / SCRIPT.name)

    return ExportFormat(
        write=write, read=None, check=check, weights="model.onnx*", runtime="onnx", codes=bits is not None,
        inside=bits or OUTSIDE[None], outside=OUTSIDE[bits],
        tolerance=0.02 if bits else 0.01, divergence=None if bits else 1e-3, largest=of_any_size, typed=False,
        script=SCRIPT,
    )  # fmt: skip
