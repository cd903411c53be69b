"""A model too large for memory: a module without block weights, whose blocks are read when needed and dropped afterwards.

Embeddings, final norm, head and buffers stay in memory. A block that is not held lies on torch's meta device: shapes and
number formats, no storage. What a step changed in a block comes from that step's checkpoint, the rest from the shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from engine.errors import Unavailable, UsageError
from engine.matrices import Matrix
from engine.shards import Shards


@dataclass
class Streamed:
    """The blocks of a module, their weights on disk and who holds them.

    `empty` has each block's weights on the meta device; `changed` the checkpoint files of the steps that changed a block, in
    order; `matrices` and `tuples` (whether a block returns one) what the first walk found out.
    """

    module: nn.Module
    shards: Shards
    blocks: list[nn.Module]
    device: torch.device
    empty: list[dict[str, torch.Tensor]]
    matrices: list[Matrix] = field(default_factory=list)
    tuples: list[bool] = field(default_factory=list)
    changed: dict[int, list[Path]] = field(default_factory=dict)
    _transposed: dict[str, bool] = field(default_factory=dict)
    _held: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def holding(self, index: int) -> Iterator[nn.Module]:
        """The block with its weights in memory, as the steps so far have left them."""
        self.enter(index)
        try:
            yield self.blocks[index]
        finally:
            self.leave(index)

    def enter(self, index: int) -> None:
        """Reads the block unless somebody holds it already."""
        self._held[index] += 1
        if self._held[index] > 1:
            return
        missing = self.shards.put(self.empty[index], self.device)
        if missing:
            raise Unavailable(f"the files lack the weight {min(missing)}", hint="fetch the model again, whole")
        self.blocks[index].requires_grad_(False)
        self._bind(index)
        for file in self.changed.get(index, []):
            self._take_over(index, file)

    def leave(self, index: int) -> None:
        """Drops the block when nobody holds it any more."""
        self._held[index] -= 1
        if self._held[index]:
            return
        for name, tensor in self.empty[index].items():
            path, _, attribute = name.rpartition(".")
            setattr(self.module.get_submodule(path), attribute, tensor)
        self._bind(index)

    def found(self, matrices: list[Matrix]) -> None:
        """Takes note of the next block's matrices, while it is held."""
        for matrix in matrices:
            slice_ = self._slice(matrix)
            self._transposed[matrix.name] = matrix.weight.stride() != slice_.stride()
        self.matrices += matrices

    def was_changed(self, index: int, file: Path) -> None:
        """From now on the block's weights are what this checkpoint says."""
        files = self.changed.setdefault(index, [])
        if file not in files:
            files.append(file)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter and buffer in the module's order, with at most one block in memory."""
        owner = {name: index for index, names in enumerate(self.empty) for name in names}
        for listing in (self.module.named_parameters, self.module.named_buffers):
            names = [name for name, _ in listing()]
            for index, group in groupby(names, owner.get):
                with nullcontext() if index is None else self.holding(index):
                    for name in group:
                        yield name, value(self.module, name)

    def part(self, index: int | None) -> dict[str, torch.Tensor]:
        """The state of a block that is held, or (None) of all that is no block."""
        state: dict[str, torch.Tensor] = self.module.state_dict()
        blocks = {name for names in self.empty for name in names}
        names = self.empty[index] if index is not None else state.keys() - blocks
        return {name: tensor for name, tensor in state.items() if name in names}

    def _bind(self, index: int) -> None:
        """Points the block's matrices at the weights that it has now."""
        for matrix in self.matrices:
            if matrix.block == index:
                slice_ = self._slice(matrix)
                matrix.weight = slice_.t() if self._transposed[matrix.name] else slice_

    def _slice(self, matrix: Matrix) -> torch.Tensor:
        name, _, number = matrix.name.partition("[")
        data = self.module.get_parameter(name).data
        return data[int(number[:-1])] if number else data

    def _take_over(self, index: int, file: Path) -> None:
        """Puts a checkpoint's tensors into the block: matrices by their names, parameters by theirs within the block."""
        views = {matrix.name: matrix.weight for matrix in self.matrices if matrix.block == index}
        views |= {name: parameter.data for name, parameter in self.blocks[index].named_parameters()}
        with torch.no_grad(), safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118  (no mapping)
                views[name].copy_(stored.get_tensor(name))


def value(module: nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer by its full name."""
    path, _, attribute = name.rpartition(".")
    found: torch.Tensor = getattr(module.get_submodule(path), attribute)
    return found.data


def load(folder: Path, dtype: torch.dtype, device: torch.device) -> tuple[Any, Streamed]:
    """The causal language model of a folder in evaluation mode, its blocks still on disk.

    Raises what transformers raises for a configuration it does not know, Unavailable for missing weights, UsageError for
    a model that cannot be taken apart.
    """
    module = skeleton(folder, dtype)
    blocks = largest_list(module)
    prefixes = [next(name for name, found in module.named_modules() if found is block) for block in blocks]
    state = module.state_dict(keep_vars=True)
    empty = [{name: tensor for name, tensor in state.items() if name.startswith(f"{prefix}.")} for prefix in prefixes]
    inside = {name for names in empty for name in names}
    tied = inside & (module.all_tied_weights_keys.keys() | set(module.all_tied_weights_keys.values()))
    if tied:
        message = f"weights are shared between blocks ({min(tied)}), which cannot be read one by one"
        raise UsageError(message, where="model.memory", hint='model.memory = "resident"')
    shards = Shards(folder, module, dtype)
    missing = shards.put(state.keys() - inside, device)
    module.tie_weights(missing_keys=missing | inside, recompute_mapping=False)
    lost = [name for name, p in module.named_parameters() if p.is_meta and name not in inside]
    if lost:
        message = f"the files lack the weight {lost[0]}"
        raise Unavailable(message, where=str(folder), hint="fetch the model again, whole")
    for name, buffer in list(module.named_buffers()):
        path, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(path), attribute, buffer.to(device))
    return module.eval().requires_grad_(False), Streamed(module, shards, blocks, device, empty)


def skeleton(folder: Path, dtype: torch.dtype) -> Any:
    """The module with its parameters on the meta device and its buffers real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if getattr(config, "quantization_config", None) is not None:
        message = "a quantized checkpoint cannot be read block by block"
        raise UsageError(message, where="model.memory", hint='model.memory = "resident"')
    with init_empty_weights(include_buffers=False):
        module: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    config.name_or_path = module.config.name_or_path = str(folder)
    if (folder / "generation_config.json").is_file():
        module.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return module


def largest_list(module: nn.Module) -> list[nn.Module]:
    """The decoder blocks: the modules of the list with the most parameters; empty where there is no list."""
    lists = [found for found in module.modules() if isinstance(found, nn.ModuleList)]
    sizes = [sum(p.numel() for p in found.parameters()) for found in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []
