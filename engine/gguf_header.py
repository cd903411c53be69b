"""The header of a GGUF file: metadata, names, shapes and types of its tensors. No weight is read.

Follows the format's description (ggml/docs/gguf.md), versions 2 and 3, little-endian. The gguf package's own reader takes
seconds over the vocabulary and needs numpy; here long arrays are stepped over.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import Unavailable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 1_000_000
LONGEST_ARRAY = 1 << 26
LONGEST_STRING = 100 * 10**6
MOST_DIMENSIONS = 8
DEEPEST_ARRAY = 4
SHOWN_ARRAY = 512
"""longer arrays are stepped over"""

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# tensor type -> name, weights a block, bytes a block
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


@dataclass(frozen=True)
class LongArray:
    """Stands in the metadata for an array that was stepped over."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} values"


@dataclass(frozen=True)
class GgufTensor:
    """`shape` as torch would have it, [out, in]: the reverse of the file's order."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (strings, numbers, short lists, LongArray); the tensors in file order, whose data starts at `begin`."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    begin: int


def read_header(path: Path) -> GgufHeader:
    """Raises Unavailable for what is no GGUF, an unknown version or type, and a file that ends early."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise Unavailable("not a GGUF file", where=str(path), hint="a GGUF file begins with the letters GGUF")
        if size < 24:
            raise Unavailable(f"truncated: {size} bytes", where=str(path), hint="fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data, size).header()


class _Reader:
    """A position in the mapped file that moves on with every value."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.at = path, data, size, 4

    def header(self) -> GgufHeader:
        version = self._scalar("I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            reason = "big-endian GGUF" if swapped else f"GGUF version {version}"
            raise Unavailable(f"{reason} is not supported", where=str(self.path), hint="versions 2 and 3 are")
        tensors, entries = self._count(MOST_ENTRIES, "tensors"), self._count(MOST_ENTRIES, "metadata entries")
        metadata = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(self._scalar("I"))
        found = tuple(self._tensor() for _ in range(tensors))
        begin = self._begin(metadata.get("general.alignment", 32))
        self._check(found, begin)
        return GgufHeader(version, metadata, found, begin)

    def _tensor(self) -> GgufTensor:
        name, dimensions = self._string(), self._scalar("I")
        if dimensions > MOST_DIMENSIONS:
            self._damaged(f"tensor {name!r} with {dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))
        kind, offset = self._scalar("I"), self._scalar("Q")
        if kind not in TYPES:
            hint = "a newer format than this version of compress-tui knows, or a damaged file"
            raise Unavailable(f"tensor {name!r} has the unknown type {kind}", where=str(self.path), hint=hint)
        dtype, weights, width = TYPES[kind]
        return GgufTensor(name, shape[::-1], dtype, math.prod(shape) // weights * width, offset)

    def _begin(self, alignment: Any) -> int:
        """Where the tensors' data starts: behind the header, aligned."""
        if not isinstance(alignment, int) or alignment < 1:
            self._damaged(f"alignment {alignment!r}")
        return -(-self.at // alignment) * alignment

    def _check(self, tensors: tuple[GgufTensor, ...], begin: int) -> None:
        """Every tensor's data lies inside the file."""
        end = begin + max((tensor.offset + tensor.bytes for tensor in tensors), default=0)
        if end > self.size:
            message = f"truncated: {self.size} bytes, the header describes {end}"
            raise Unavailable(message, where=str(self.path), hint="fetch it again")
        if len({tensor.name for tensor in tensors}) < len(tensors):
            self._damaged("two tensors of one name")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY and depth < DEEPEST_ARRAY:
            return self._array(depth + 1)
        if kind not in SCALARS:
            self._damaged(f"metadata of type {kind}")
        return self._scalar(SCALARS[kind])

    def _array(self, depth: int) -> Any:
        kind, count = self._scalar("I"), self._count(LONGEST_ARRAY, "array values")
        if count <= SHOWN_ARRAY:
            return [self._value(kind, depth) for _ in range(count)]
        if kind == STRING:
            self._skip_strings(count)
        elif kind in SCALARS:
            self._move(count * struct.calcsize(f"<{SCALARS[kind]}"))
        else:
            for _ in range(count):
                self._value(kind, depth)
        return LongArray(count)

    def _skip_strings(self, count: int) -> None:
        at, data, unpack = self.at, self.data, struct.Struct("<Q").unpack_from
        try:
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
        except (struct.error, OverflowError):
            at = self.size + 1
        self._move(at - self.at)

    def _string(self) -> str:
        length = self._count(LONGEST_STRING, "bytes in a string")
        begin = self.at
        self._move(length)
        return self.data[begin : self.at].decode("utf-8", "replace")

    def _count(self, most: int, what: str) -> int:
        count: int = self._scalar("Q")
        if count > most:
            self._damaged(f"{count} {what}")
        return count

    def _scalar(self, code: str) -> Any:
        begin = self.at
        self._move(struct.calcsize(f"<{code}"))
        return struct.unpack_from(f"<{code}", self.data, begin)[0]

    def _move(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            hint = "fetch it again"
            raise Unavailable("truncated: the file ends inside its header", where=str(self.path), hint=hint)

    def _damaged(self, what: str) -> NoReturn:
        raise Unavailable(f"not a sound GGUF header: {what}", where=str(self.path), hint="fetch it again")
