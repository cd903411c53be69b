"""Classifiers and other modules as one ONNX file by torch.onnx; eight-bit weights by onnxruntime's dynamic quantization."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from engine import files
from engine.errors import EngineError, UsageError
from engine.export.onnx.decoder import need
from engine.subject import Subject

FILE = "model.onnx"
INPUT, OUTPUT = "features", "answers"
NEEDED = ("onnxruntime", "onnx", "onnx_ir", "onnxscript")


def check(subject: Subject) -> None:
    """Raises UsageError for a module without data to trace it with."""
    need(NEEDED)
    if subject.features is None:
        message = "an ONNX file is traced from data, and this module brings none"
        raise UsageError(
            message, where=subject.source, hint='name features in calibration.source, or format = "safetensors"'
        )


def write(subject: Subject, folder: Path, bits: int | None) -> None:
    """Writes model.onnx, for any number of rows, into the (new, empty) folder; in float32, or with weights of eight bits."""
    assert subject.features is not None
    rows = torch.from_numpy(subject.features.x[:4]).to(subject.device, subject.dtype)
    with files.scratch(folder) as scratch:
        plain = scratch / FILE if bits else folder / FILE
        try:
            torch.onnx.export(
                subject.module, (rows,), str(plain), input_names=[INPUT], output_names=[OUTPUT], dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as error:  # whatever the tracer meets in a user's module
            first = str(error).strip().partition("\n")[0]
            hint = 'format = "safetensors"'
            raise EngineError(
                f"torch.onnx cannot trace the module: {first}", where=subject.source, hint=hint
            ) from error
        if bits:
            _quantize(plain, folder / FILE)


def _quantize(plain: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(lambda record: "pre-processing before quantization" not in record.getMessage())
    quantize_dynamic(str(plain), str(target), weight_type=QuantType.QInt8, per_channel=True)
