"""A model too large for memory: a module without weights, of which parts are read when needed and dropped afterwards.

A part is a block, or the rest: embeddings, final norm, head. A part that nobody holds lies on torch's meta device: shapes and
number formats, no storage. What a step changed in a block comes from that step's checkpoint, everything else from the shards.
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

REST = -1  # the part that is no block


@dataclass
class Streamed:
    """The parts of a module, their weights on disk and who holds them.

    `empty` has each part's weights on the meta device; `changed` the checkpoint files of the steps that changed a block, in
    order; `matrices` and `tuples` (whether a block returns one) what the first walk found out.
    """

    module: Any
    shards: Shards
    blocks: list[nn.Module]
    device: torch.device
    empty: dict[int, dict[str, torch.Tensor]]
    matrices: list[Matrix] = field(default_factory=list)
    tuples: list[bool] = field(default_factory=list)
    changed: dict[int, list[Path]] = field(default_factory=dict)
    _transposed: dict[str, bool] = field(default_factory=dict)
    _held: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def holding(self, part: int) -> Iterator[None]:
        """The part's weights are in memory inside, as the steps so far have left them; held twice, they are read once."""
        self._held[part] += 1
        try:
            if self._held[part] == 1:
                self._read(part)
            yield
        finally:
            self._held[part] -= 1
            if not self._held[part]:
                self._drop(part)

    def _read(self, part: int) -> None:
        missing = self.shards.put(self.empty[part], self.device)
        for name in missing:
            if not self.module.get_parameter_or_buffer(name).is_meta:  # a buffer with a value of its own stays
                del self.empty[part][name]
        if part == REST:
            self.module.tie_weights(missing_keys=missing, recompute_mapping=False)
        for name in self.empty[part]:
            if self.module.get_parameter_or_buffer(name).is_meta:
                raise Unavailable(f"the files lack the weight {name}", hint="fetch the model again, whole")
        self.module.requires_grad_(False)
        self._bind(part)
        for file in self.changed.get(part, []):
            self._take_over(part, file)

    def _drop(self, part: int) -> None:
        for name, tensor in self.empty[part].items():
            put(self.module, name, tensor)
        self._bind(part)

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
        """Every parameter and buffer in the module's order, with at most one part in memory."""
        owner = {name: part for part, names in self.empty.items() for name in names}
        for listing in (self.module.named_parameters, self.module.named_buffers):
            names = [name for name, _ in listing()]
            for part, group in groupby(names, owner.get):
                with nullcontext() if part is None else self.holding(part):
                    for name in group:
                        yield name, self.module.get_parameter_or_buffer(name).data

    def state(self, part: int) -> dict[str, torch.Tensor]:
        """The state dict of a part that is held; what belongs to no part goes with the rest."""
        elsewhere = {name for other, names in self.empty.items() if other != part for name in names}
        if part != REST:
            elsewhere |= self.module.state_dict().keys() - self.empty[part].keys()
        return {name: tensor for name, tensor in self.module.state_dict().items() if name not in elsewhere}

    def _bind(self, index: int) -> None:
        """Points the block's matrices at the weights that it has now."""
        for matrix in self.matrices:
            if matrix.block == index:
                slice_ = self._slice(matrix)
                matrix.weight = slice_.t() if self._transposed[matrix.name] else slice_

    def _slice(self, matrix: Matrix) -> torch.Tensor:
        name, _, number = matrix.name.partition("[")
        data: torch.Tensor = self.module.get_parameter(name).data
        return data[int(number[:-1])] if number else data

    def _take_over(self, index: int, file: Path) -> None:
        """Puts a checkpoint's tensors into the block: matrices by their names, parameters by theirs within the block."""
        views = {matrix.name: matrix.weight for matrix in self.matrices if matrix.block == index}
        views |= {name: parameter.data for name, parameter in self.blocks[index].named_parameters()}
        with torch.no_grad(), safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118  (no mapping)
                views[name].copy_(stored.get_tensor(name))


def put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Replaces a parameter or buffer."""
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, tensor)


def load(folder: Path, dtype: torch.dtype, device: torch.device) -> Streamed:
    """The causal language model of a folder in evaluation mode, its weights still on disk.

    Raises what transformers raises for a configuration it does not know, Unavailable for missing weights, UsageError for
    a model that cannot be taken apart.
    """
    module = skeleton(folder, dtype)
    for name, buffer in list(module.named_buffers()):
        put(module, name, buffer.to(device))
    blocks = largest_list(module)
    stream = Streamed(module, Shards(folder, module, dtype), blocks, device, parts(module, blocks))
    rest = stream.empty[REST]
    tied = module.all_tied_weights_keys.keys() | set(module.all_tied_weights_keys.values())
    if alone := sorted(tied - rest.keys()):
        message = f"weights are shared between blocks ({alone[0]}), which cannot be read one by one"
        raise UsageError(message, where="model.memory", hint='model.memory = "resident"')
    with stream.holding(REST):  # only now is it known what is tied
        made: dict[int, torch.Tensor] = {}
        for name in rest:
            tensor = module.get_parameter_or_buffer(name)
            rest[name] = made.setdefault(id(tensor), on_meta(tensor))
    return stream


def parts(module: nn.Module, blocks: list[nn.Module]) -> dict[int, dict[str, torch.Tensor]]:
    """{part: {name: parameter or buffer}} of everything that is stored."""
    prefixes = {name_of(block, module): index for index, block in enumerate(blocks)}
    found: dict[int, dict[str, torch.Tensor]] = {part: {} for part in (REST, *prefixes.values())}
    for name, tensor in module.state_dict(keep_vars=True).items():
        pieces = name.split(".")
        heads = (".".join(pieces[:length]) for length in range(1, len(pieces)))
        part = next((prefixes[head] for head in heads if head in prefixes), REST)
        found[part][name] = tensor
    return found


def name_of(part: nn.Module, module: nn.Module) -> str:
    """A part's name in the module; empty for the module itself."""
    return str(next(name for name, found in module.named_modules() if found is part))


def on_meta(tensor: torch.Tensor) -> torch.Tensor:
    """The same parameter or buffer without storage."""
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def read_generation(module: Any, folder: Path) -> None:
    """Takes over how the folder's texts are written and where they end, where it says so: a config alone does not."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        module.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)


def skeleton(folder: Path, dtype: torch.dtype) -> Any:
    """The module with its parameters on the meta device and its buffers real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        message = "a quantized checkpoint cannot be read block by block"
        raise UsageError(message, where="model.memory", hint='model.memory = "resident"')
    with init_empty_weights(include_buffers=False):
        module: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    config.name_or_path = module.config.name_or_path = str(folder)
    read_generation(module, folder)
    return module.eval().requires_grad_(False)


def largest_list(module: nn.Module) -> list[nn.Module]:
    """The decoder blocks: the modules of the list with the most parameters; empty where there is no list."""
    lists = [found for found in module.modules() if isinstance(found, nn.ModuleList)]
    sizes = [sum(p.numel() for p in found.parameters()) for found in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []
