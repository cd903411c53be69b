"""Writes safetensors shards tensor by tensor, so that a model need not be in memory; follows the format's description
(huggingface/safetensors, README.md) and transformers' names for shards and their index.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

from engine.inspection import INDEX, WEIGHTS
from engine.shards import STORED
from engine.subject import Subject
from engine.weights import as_dtype, save_settings

HEADER = 1 << 20  # bytes kept free for a shard's header, which is known when its last tensor is
ENTRY = 200  # bytes that a tensor's entry takes besides its name, at most
LARGEST = 5 * 10**9  # bytes of weights in a shard, as the hub has it
NAMES = {dtype: name for name, dtype in STORED.items()}


@dataclass
class ShardWriter:
    """A folder's shards, of at most `largest` bytes of weights unless one tensor is larger. A context manager."""

    folder: Path
    largest: int = LARGEST
    _file: IO[bytes] | None = None
    _entries: dict[str, Any] = field(default_factory=dict)
    _end: int = 0
    _header: int = 0
    _shards: list[list[str]] = field(default_factory=list)
    _bytes: int = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None and error is not None:
            self._file.close()
        elif error is None:
            self.finish()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Appends a tensor to the current shard, or begins the next."""
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        entry = len(json.dumps(name)) + ENTRY
        full = self._end + len(data) > self.largest or self._header + entry > HEADER
        unaligned = self._end % tensor.element_size() != 0
        if self._file is None or (self._end and (full or unaligned)):
            self._begin()
        assert self._file is not None
        self._file.write(data)
        offsets = [self._end, self._end + len(data)]
        self._entries[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        self._end += len(data)
        self._bytes += len(data)
        self._header += entry

    def finish(self) -> None:
        """Completes the last shard, gives all their names, writes the index where there are several."""
        self._close()
        count = len(self._shards)
        names = [WEIGHTS] if count == 1 else [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
        for index, name in enumerate(names):
            os.replace(self._part(index), self.folder / name)
        if count > 1:
            placed = {tensor: name for name, tensors in zip(names, self._shards, strict=True) for tensor in tensors}
            about = {"metadata": {"total_size": self._bytes}, "weight_map": placed}
            (self.folder / INDEX).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _begin(self) -> None:
        self._close()
        self._file = self._part(len(self._shards)).open("wb")
        self._file.write(b" " * HEADER)
        self._entries, self._end, self._header = {}, 0, ENTRY

    def _close(self) -> None:
        if self._file is None:
            return
        header = json.dumps({"__metadata__": {"format": "pt"}, **self._entries}).encode()
        with self._file:
            self._file.seek(0)
            self._file.write(
                (HEADER - 8).to_bytes(8, "little") + header
            )  # blanks up to the data are part of the header
        self._shards.append(list(self._entries))
        self._file = None

    def _part(self, index: int) -> Path:
        return self.folder / f"part-{index}.safetensors"


def write_streamed(subject: Subject, folder: Path, dtype: torch.dtype, largest: int = LARGEST) -> None:
    """The folder of a streamed model, one block in memory at a time; plain transformers loads it."""
    stream = subject.stream
    assert stream is not None
    with ShardWriter(folder, largest) as writer:
        for part in stream.empty:
            with stream.holding(part):
                add_part(writer, stream.shards.as_stored(stream.state(part)), dtype)
    save_settings(subject.module, folder, dtype)
    assert subject.tokenizer is not None
    subject.tokenizer.save_pretrained(folder)


def add_part(writer: ShardWriter, state: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """A part's tensors, those with the largest numbers first: each is then aligned behind the one before."""
    stored = {name: (dtype if tensor.is_floating_point() else tensor.dtype).itemsize for name, tensor in state.items()}
    for name in sorted(state, key=lambda name: (-stored[name], name)):
        tensor = state[name]
        writer.add(name, as_dtype(name, tensor, dtype) if tensor.is_floating_point() else tensor)
