"""The tensors of a model for formats that store integer codes, part by part, so that a streamed model need not be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from engine.errors import UsageError
from engine.export.sharded import ShardWriter, add_part
from engine.inspection import WEIGHTS
from engine.quantization.grid import Codes
from engine.streaming import name_of
from engine.subject import Subject
from engine.weights import as_dtype, save_settings, writing

State = dict[str, torch.Tensor]


def check_linear(subject: Subject, name: str) -> None:
    """Raises UsageError unless every matrix in a block is a Linear's weight: experts in one parameter and transposed matrices
    are no Linear layers to who reads the file.
    """
    for block in subject.blocks():
        owned = {id(p) for module in block.modules() if isinstance(module, nn.Linear) for p in module.parameters()}
        for parameter_name, parameter in block.named_parameters():
            if parameter.ndim > 1 and id(parameter) not in owned:
                where = f"{name_of(block, subject.module)}.{parameter_name}"
                message = f"{name} stores codes of Linear layers only"
                raise UsageError(message, where=where, hint='format = "safetensors"')


def states(subject: Subject) -> Iterator[State]:
    """The module's state dict in parts; tensors that are tied once, under the first of their names."""
    if subject.stream is None:
        yield _once(subject.module.state_dict())
        return
    for part in subject.stream.empty:
        with subject.stream.holding(part):
            yield _once(subject.stream.state(part))


def write(subject: Subject, folder: Path, dtype: torch.dtype, change: Callable[[State], State]) -> None:
    """A folder of safetensors with every part of the model as `change` has it, floating-point tensors in this format, and what
    transformers needs beside them.
    """
    with writing(folder):
        if subject.stream is None:
            whole = {name: tensor for state in states(subject) for name, tensor in change(state).items()}
            stored = {n: (as_dtype(n, t, dtype) if t.is_floating_point() else t).contiguous() for n, t in whole.items()}
            save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
        else:
            with ShardWriter(folder) as writer:
                for state in states(subject):
                    add_part(writer, change(state), dtype)
    save_settings(subject.module, folder, dtype)
    assert subject.tokenizer is not None
    subject.tokenizer.save_pretrained(folder)


def _once(state: State) -> State:
    first: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in state.items():
        first.setdefault((tensor.data_ptr(), tensor.shape), name)
    return {name: state[name] for name in first.values()}


def codes_of(subject: Subject, name: str, weight_OI: torch.Tensor) -> Codes | None:
    """The codes of a matrix that has this weight, None where it has none. Raises UsageError when it was changed since."""
    if subject.quantized is None or name not in subject.quantized.formats:
        return None
    return subject.quantized.current(name, weight_OI)
