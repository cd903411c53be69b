"""The values of one matrix, from its file alone: whole rows, evenly spread where there are too many. No torch.

Plain numbers of safetensors files, and every type of GGUF that the gguf package takes apart. Shapes: [out, in] = [R, C].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine import gguf_header, safetensors_header
from engine.errors import Unavailable
from engine.summary import ModelSummary, TensorInfo

if TYPE_CHECKING:
    from engine.gguf_header import GgufHeader, GgufTensor
    from engine.safetensors_header import SafetensorsHeader

Values = NDArray[np.float32]
MOST = 1 << 22
"""weights that are read of one matrix"""
NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
HEADERS = 64
"""headers that are kept for the next matrix of the same files"""
ROTATED = {"attn_q.weight": "num_attention_heads", "attn_k.weight": "num_key_value_heads"}
"""matrices whose rows llama.cpp stores in another order, and the number of their heads"""


@dataclass(frozen=True)
class Stored:
    """Every `step`-th row of a matrix."""

    values_RC: Values
    step: int


def read(summary: ModelSummary, tensor: TensorInfo, most: int = MOST) -> Stored:
    """The rows of a matrix, at most `most` weights of it. Raises Unavailable where its values cannot be read."""
    if summary.remote:
        hint = f"hf download {summary.name}"
        raise Unavailable("its weights are on the hub, only headers were read", where=tensor.name, hint=hint)
    folder = Path(summary.path)
    file = folder / tensor.file if folder.is_dir() else folder
    width = tensor.shape[-1] if tensor.shape else 1
    step = max(1, math.ceil(tensor.parameters / most))
    rows = np.arange(0, tensor.parameters // max(1, width), step)
    with _told(tensor, file):
        found = _gguf(summary, tensor, file, rows) if summary.format == "gguf" else _safetensors(tensor, file, rows)
    return Stored(found, step)


def _safetensors(tensor: TensorInfo, file: Path, rows: NDArray[np.int64]) -> Values:
    if tensor.dtype not in NUMBERS:
        raise Unavailable(
            f"{tensor.dtype} values are codes that only the whole model gives a meaning", where=tensor.name
        )
    found = next(t for t in _plain_header(file, file.stat().st_mtime_ns).tensors if t.name == tensor.name)
    taken = _rows(file, found.begin, tensor, rows).view(NUMBERS[tensor.dtype])
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (taken.astype(np.uint32) << 16).view(np.float32)
    return taken.astype(np.float32)


def _gguf(summary: ModelSummary, tensor: TensorInfo, file: Path, rows: NDArray[np.int64]) -> Values:
    from gguf import GGMLQuantizationType, quants

    header = _gguf_header(file, file.stat().st_mtime_ns)
    found: GgufTensor = next(t for t in header.tensors if t.name == tensor.name)
    order = _order(summary, tensor, tensor.parameters // tensor.shape[-1])
    stored = _rows(file, header.begin + found.offset, tensor, order[rows])
    kind: Any = GGMLQuantizationType[tensor.dtype]
    return np.asarray(quants.dequantize(stored, kind), np.float32)


def _rows(file: Path, begin: int, tensor: TensorInfo, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bytes of these rows of a matrix that lies at `begin`; read, as no other thread goes on while a mapped file is."""
    count = tensor.parameters // tensor.shape[-1]
    width = tensor.bytes // count
    with file.open("rb") as handle:
        handle.seek(begin)
        if len(rows) == count:
            return np.frombuffer(handle.read(tensor.bytes), np.uint8).reshape(count, width)[rows]
        found = []
        for row in rows.tolist():
            handle.seek(begin + row * width)
            found.append(handle.read(width))
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(rows), width)


@lru_cache(maxsize=HEADERS)
def _plain_header(file: Path, changed: int) -> SafetensorsHeader:
    return safetensors_header.read_header(file)


@lru_cache(maxsize=HEADERS)
def _gguf_header(file: Path, changed: int) -> GgufHeader:
    return gguf_header.read_header(file)


def _order(summary: ModelSummary, tensor: TensorInfo, rows: int) -> NDArray[np.int64]:
    """Where transformers' rows lie: llama.cpp interleaves the two halves of each head of a Llama's queries and keys."""
    plain = np.arange(rows)
    heads = summary.config.get(next((ROTATED[end] for end in ROTATED if tensor.name.endswith(end)), ""))
    if summary.architecture != "llama" or not heads or rows % (2 * heads):
        return plain
    return plain.reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


@contextmanager
def _told(tensor: TensorInfo, file: Path) -> Iterator[None]:
    """What the system, numpy or gguf refuses, in our own words."""
    try:
        yield
    except (OSError, ValueError, StopIteration) as error:
        raise Unavailable(f"{tensor.name} cannot be read: {error}", where=str(file)) from error
    except (KeyError, NotImplementedError) as error:  # gguf raises them for a type that it has no reader of
        raise Unavailable(f"{tensor.dtype} values cannot be taken apart", where=tensor.name) from error
