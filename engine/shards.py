"""A transformers folder's weights, read tensor by tensor and put into a module part by part, just as from_pretrained would.

The one place that uses transformers' loading below from_pretrained: names and layouts on disk are not always the module's
(experts are stored one by one), and its own conversions know how to get from one to the other and back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import inspection, safetensors_header
from engine.errors import Unavailable

STORED = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "F32": torch.float32,
    "I64": torch.int64, "F64": torch.float64,
}  # fmt: skip
AT_ONCE = 1 << 30  # bytes a read asks for; the system gives at most 2 GiB


@dataclass(frozen=True)
class Lazy:
    """A tensor on disk: indexing it, as transformers' loader does, reads it into memory of its own.

    Not memory-mapped: a private mapping counts with its whole file towards a limit on the process's data.
    """

    file: Path
    begin: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __getitem__(self, everything: Any) -> torch.Tensor:
        tensor = torch.empty(self.shape, dtype=self.dtype)
        target = tensor.reshape(-1).view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.begin)
            done = 0
            while done < len(target):
                read = file.readinto(target[done : done + AT_ONCE])
                if not read:
                    safetensors_header.damaged(self.file, "the file became shorter while it was read")
                done += read
        return tensor


class Shards:
    """The tensors of a folder's shards, each with the name that it has in `module`."""

    def __init__(self, folder: Path, module: nn.Module, dtype: torch.dtype) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping

        self._module: Any = module
        self._dtype = dtype
        self._mapping = get_model_conversion_mapping(module)
        stored = tensors(folder)
        self._targets = self._named(stored)
        self._stored = stored
        self._used = [conversion for conversion in self._mapping if conversion.was_used()]

    def put(self, wanted: Iterable[str], device: torch.device) -> set[str]:
        """Reads these weights of the module (names as it has them) into it; returns those that the files do not hold."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        wanted = set(wanted)
        chosen = {key: lazy for key, lazy in self._stored.items() if self._targets[key] in wanted}
        config = LoadStateDictConfig(
            dtype=self._dtype, dtype_plan=self._module._get_dtype_plan(self._dtype), device_map={"": device},
            weight_mapping=self._mapping,
        )  # fmt: skip
        with one_by_one():
            info, _ = convert_and_load_state_dict_in_model(self._module, chosen, config)
        if info.mismatched_keys or info.conversion_errors:
            names = sorted(str(found[0]) for found in info.mismatched_keys) or sorted(info.conversion_errors)
            message = f"the weights do not fit the configuration: {', '.join(names[:3])}"
            raise Unavailable(message, hint="compress-tui inspect shows what the files hold")
        self._module._weight_conversions = self._used
        missing: set[str] = wanted & info.missing_keys
        return missing

    def as_stored(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A part of the module's weights under the names and in the layout of the files; tied ones once."""
        from transformers.core_model_loading import revert_weight_conversion
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        ignored = self._module._keys_to_ignore_on_save or ()
        once = {name: tensor for name, tensor in state.items() if name not in ignored}
        once = remove_tied_weights_from_state_dict(once, self._module)
        self._module._weight_conversions = self._used
        found: dict[str, torch.Tensor] = revert_weight_conversion(self._module, once)
        return found

    def _named(self, stored: Iterable[str]) -> dict[str, str]:
        """{name in the files: name in the module, of one of the tensors that it becomes}."""
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        renamings = [entry for entry in self._mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self._mapping if isinstance(entry, WeightConverter)]
        known = self._module.state_dict()
        prefix = self._module.base_model_prefix

        def target(key: str) -> str:
            found, _ = rename_source_key(key, renamings, converters, prefix, known)
            if found not in known and key in known:
                found, _ = rename_source_key(key, [], [], prefix, known)
            return str(found)

        return {key: target(key) for key in stored}


def tensors(folder: Path) -> dict[str, Lazy]:
    """Every tensor of a folder's shards by its name there. Raises Unavailable for a number format that torch lacks."""
    found: dict[str, Lazy] = {}
    for file in inspection.weight_files(folder):
        for tensor in safetensors_header.read_header(file).tensors:
            if tensor.dtype not in STORED:
                message = f"tensor {tensor.name!r} is stored as {tensor.dtype}"
                raise Unavailable(message, where=str(file), hint='model.memory = "resident" may load it')
            found[tensor.name] = Lazy(file, tensor.begin, tensor.shape, STORED[tensor.dtype])
    return found


@contextmanager
def one_by_one() -> Iterator[None]:
    """Keeps transformers from reading tensors ahead in threads, which holds more of them than needed."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    old = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if old is not None:
            os.environ[name] = old
