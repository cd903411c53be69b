"""Weights as such: whether they are finite, their hash, another number format, and writing them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from engine.errors import EngineError, Unavailable
from engine.quantization import inputs
from engine.subject import Subject

BOOKKEEPING = {"transformers_version", "dtype", "architectures"}
WIDER = 'dtype = "bfloat16" or "float32" in the export step'


def check_finite(subject: Subject) -> None:
    """Raises Unavailable that names the first weight with a NaN or an infinity."""
    for _ in finite_weights(subject.module.named_parameters(), subject.module, subject.source):
        pass


def finite_weights(
    tensors: Iterable[tuple[str, torch.Tensor]], module: nn.Module, source: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """The module's tensors, each parameter looked at first; an infinity in a buffer, as in a mask, is no damage.

    Raises Unavailable that names the first parameter with a NaN or an infinity.
    """
    weights = {name for name, _ in module.named_parameters()}
    for name, tensor in tensors:
        if name in weights and not is_finite(tensor):
            hint = "the checkpoint is damaged; fetch it again"
            if tensor.dtype == torch.float16:
                hint = f'float16 may not hold them: model.dtype = "float32"; if it says the same, {hint}'
            raise Unavailable(f"weight {name} holds NaN or infinite values", where=source, hint=hint)
        yield name, tensor


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is a number; the extremes tell, without a tensor as large again."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return all(bool(torch.isfinite(extreme)) for extreme in tensor.aminmax())


def as_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in another number format; one of whole numbers stays as it is. Raises EngineError where the format cannot hold
    one of its numbers.
    """
    if not tensor.is_floating_point():
        return tensor
    made = tensor.to(dtype)
    if made.dtype != tensor.dtype and not is_finite(made) and is_finite(tensor):
        raise EngineError(f"{str(dtype).removeprefix('torch.')} cannot hold the weight", where=name, hint=WIDER)
    return made


def save_language_model(subject: Subject, folder: Path, dtype: torch.dtype) -> None:
    """Writes a folder that plain transformers loads."""
    model: Any = subject.module
    with writing(folder):
        model.save_pretrained(folder, state_dict=converted(model.state_dict(), dtype) if dtype != model.dtype else None)
    save_settings(model, folder, dtype)  # save_pretrained has put the dtype in memory there
    assert subject.tokenizer is not None
    subject.tokenizer.save_pretrained(folder)


def save_settings(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """config.json and generation_config.json beside weights in this format, as transformers' save_pretrained writes them."""
    model.config.architectures = [type(model).__name__]
    try:
        model.config.dtype = dtype
        model.config.save_pretrained(folder)
    finally:
        model.config.dtype = model.dtype
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what safetensors raises when a disk is full into an EngineError."""
    try:
        yield
    except SafetensorError as error:
        raise EngineError(f"the weights cannot be written: {error}", where=str(path)) from error


def converted(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors in another number format; tied ones stay one tensor, so that they are stored once."""
    made: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in made:
            made[key] = as_dtype(name, tensor, dtype)
    return {name: made[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def weights_hash(
    module: nn.Module, tokenizer: Any | None = None, tensors: Iterable[tuple[str, torch.Tensor]] | None = None
) -> str:
    """A hash of everything that decides what the model answers: weights, buffers, configuration, tokenizer,
    inputs that are rounded.

    `tensors` gives parameters and buffers where they are not all in the module.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, layer in module.named_modules():
        digest.update(f"rounded {name}".encode() if inputs.rounds(layer) else b"")
    for name, tensor in tensors or [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config = getattr(module, "config", None)
    if config is not None:
        settings = {k: v for k, v in config.to_dict().items() if k not in BOOKKEEPING and not k.startswith("_")}
        digest.update(repr(sorted(settings.items(), key=str)).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update(backend.to_str().encode() if backend else b"")
    return digest.hexdigest()
