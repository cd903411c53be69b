"""A model that is read block by block is the same model: weights, answers, pruned weights, exports; and takes less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import ARCHITECTURES, DEVICES, TEXT, VOCABULARY, save, tiny, tokenizer
from safetensors.torch import load_file

from engine import events as ev
from engine import memory, model, runs
from engine import profile as profiles
from engine.calibration import Walk
from engine.errors import Unavailable, UsageError
from engine.evaluation.logits import window_logits
from engine.export.sharded import ShardWriter, write_streamed
from engine.model import Subject
from engine.profile import ModelOptions
from engine.runs import Run
from engine.spill import on_disk
from engine.worker import execute


def load(folder: Path, memory: str, device: str = "cpu", dtype: str = "float32") -> Subject:
    return model.load(ModelOptions(source=str(folder), device=device, dtype=dtype, memory=memory))  # type: ignore[arg-type]


def both(folder: Path, device: str = "cpu", dtype: str = "float32") -> tuple[Subject, Subject]:
    return load(folder, "resident", device, dtype), load(folder, "stream", device, dtype)


def held(subject: Subject) -> int:
    """Parameters in memory."""
    return sum(p.numel() for p in subject.module.parameters() if not p.is_meta)


def windows(count: int = 3, length: int = 70) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_holds_the_same_weights_and_buffers(name: str, dtype: str, device: str, tmp_path: Path) -> None:
    resident, streamed = both(save(name, tmp_path), device, dtype)
    pairs = zip(resident.tensors(), streamed.tensors(), strict=True)
    for (mine, tensor), (other, read) in pairs:
        assert mine == other
        assert tensor.dtype == read.dtype
        assert torch.equal(tensor, read), mine
    assert streamed.fingerprint == resident.fingerprint
    assert (streamed.parameters, streamed.bytes) == (resident.parameters, resident.bytes)
    assert not any(p.requires_grad for p in streamed.module.parameters())
    assert not streamed.module.training
