"""The header of a .safetensors file: names, shapes and types of its tensors. No weight is read.

Follows the format's description (huggingface/safetensors, README.md) and checks what its own reader checks.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import Unavailable

LONGEST_HEADER = 100 * 10**6
BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """`dtype` as the format names it, `bytes` in the file, which `begin` so far from its start."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    begin: int = 0


@dataclass(frozen=True)
class SafetensorsHeader:
    """Tensors in the header's order, and its free metadata."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, Any]


def read_header(path: Path) -> SafetensorsHeader:
    """Raises Unavailable for a damaged file, or one with less or more data than its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            damaged(path, f"truncated: {size} bytes, the header alone says {length}")
        if length > LONGEST_HEADER:
            damaged(path, f"a header of {length} bytes")
        header = parse_object(file.read(length), path)
    metadata = header.pop("__metadata__", {})
    tensors = tuple(tensor_of(path, name, entry, 8 + length) for name, entry in header.items())
    _check(path, tensors, 8 + length, size - 8 - length)
    return SafetensorsHeader(tensors, metadata if isinstance(metadata, dict) else {})


def _check(path: Path, tensors: tuple[StoredTensor, ...], start: int, available: int) -> None:
    """The tensors lie one after the other and fill the file."""
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.bytes)):
        if tensor.begin - start != end:
            message = f"tensor {tensor.name!r} begins at byte {tensor.begin - start}, the one before it ends at {end}"
            damaged(path, message)
        end += tensor.bytes
    if end != available:
        short = "truncated: " if end > available else ""
        damaged(path, f"{short}{available} bytes of weights, the header describes {end}")


def tensor_of(path: Path, name: str, entry: Any, start: int = 0) -> StoredTensor:
    """The tensor of a header's entry, in a file whose data begins at `start`."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            sound = 0 <= begin <= end and all(isinstance(n, int) and 0 <= n < 2**63 for n in shape)
            if sound and (dtype not in BITS or math.prod(shape) * BITS[dtype] == 8 * (end - begin)):
                return StoredTensor(name, tuple(shape), dtype, end - begin, start + begin)
    damaged(path, f"the header's entry of tensor {name!r} makes no sense")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a small file. Raises Unavailable for anything else."""
    if (size := path.stat().st_size) > LONGEST_HEADER:
        damaged(path, f"{size} bytes")
    return parse_object(path.read_bytes(), path)


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises Unavailable for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        damaged(path, f"not JSON: {str(error)[:80]}")
    if not isinstance(value, dict):
        damaged(path, "not a JSON object")
    return value


def damaged(path: Path, what: str) -> NoReturn:
    """Raises Unavailable: the file is not what its writer wrote."""
    raise Unavailable(what, where=str(path), hint="the file is damaged; fetch it again")
