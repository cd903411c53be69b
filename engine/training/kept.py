"""What a training keeps on disk to go on exactly where it was: weights, AdamW's moments, and what else its method names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from engine import files
from engine.errors import EngineError
from engine.weights import writing

MOMENTS = ("exp_avg", "exp_avg_sq")


def save(file: Path, weights: Sequence[nn.Parameter], optimizer: torch.optim.AdamW, about: Any, **more: Any) -> None:
    """Replaces the file, whole or not at all; `about` is plain JSON, `more` are lists of tensors by name."""
    stored: dict[str, torch.Tensor] = {}
    for number, weight in enumerate(weights):
        stored |= numbered(number, {"weight": weight.detach(), **optimizer.state.get(weight, {})})
    for name, tensors in more.items():
        for number, tensor in enumerate(tensors):
            stored |= numbered(number, {name: tensor})
    with writing(file):
        files.write_with(file, lambda part: save_file(stored, part, {"training": json.dumps(about)}))


def numbered(number: int, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{name}.{number}": tensor.cpu().contiguous() for name, tensor in tensors.items()}


def restore(
    file: Path, weights: Sequence[nn.Parameter], optimizer: torch.optim.AdamW
) -> tuple[Any, dict[str, list[torch.Tensor]]] | None:
    """Puts weights and moments back; returns what `save` was given as `about` and `more`, None when there is no file. Raises
    EngineError when it is of other weights.
    """
    if not file.is_file():
        return None
    more: dict[str, dict[int, torch.Tensor]] = {}
    with safe_open(file, "pt") as stored:
        about, names = json.loads(stored.metadata()["training"]), set(stored.keys())
        for number, weight in enumerate(weights):
            found = stored.get_tensor(f"weight.{number}")
            if found.shape != weight.shape:
                message = f"the saved state is of other weights: {list(found.shape)} instead of {list(weight.shape)}"
                raise EngineError(message, where=str(file), hint="start a new run")
            weight.data.copy_(found)
            if f"step.{number}" in names:
                moments = {name: stored.get_tensor(f"{name}.{number}").to(weight.device) for name in MOMENTS}
                step = stored.get_tensor(f"step.{number}")
                there = weight.device if optimizer.defaults.get("fused") else step.device  # as torch itself keeps it
                optimizer.state[weight] = {"step": step.to(there), **moments}
        for key in names:
            name, _, place = key.rpartition(".")
            if name not in ("weight", "step", *MOMENTS):
                more.setdefault(name, {})[int(place)] = stored.get_tensor(key)
    return about, {name: [found[number] for number in sorted(found)] for name, found in more.items()}
