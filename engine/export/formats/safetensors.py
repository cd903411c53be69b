"""A folder of safetensors that plain transformers loads; for other modules, one file of their weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.export.format import ExportFormat
from engine.export.sharded import write_streamed
from engine.model import reload
from engine.subject import Subject
from engine.weights import as_dtype, save_language_model, writing


def write(subject: Subject, folder: Path, dtype: torch.dtype) -> None:
    """Writes the model into the (new, empty) folder."""
    if subject.stream is not None:
        with writing(folder):
            write_streamed(subject, folder, dtype)
    elif subject.is_language_model:
        save_language_model(subject, folder, dtype)
    else:
        # tied weights are stored once each: who loads the file has no configuration that ties them
        state = {
            name: as_dtype(name, tensor, dtype).clone().contiguous()
            for name, tensor in subject.module.state_dict().items()
        }
        with writing(folder):
            save_file(state, folder / "model.safetensors")


FORMAT = ExportFormat(write=write, read=reload, streams=True)
