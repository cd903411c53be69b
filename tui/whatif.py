"""What a model would take if its blocks' matrices were pruned or quantized so far, on disk and loaded.

Arithmetic on the headers, nothing is run. Embeddings, head and norms stay as they are stored, as the steps leave them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from engine import figures
from engine.errors import UsageError
from tui.names import block_of

if TYPE_CHECKING:
    from engine.summary import ModelSummary, TensorInfo

EXAMPLE = "sparsity=0.5 bits=4 group=128"
WIDEST = 32
SCALE_BITS = 16
LOADED = "loaded: with keys and values of 1k tokens; masks unpacked"


@dataclass(frozen=True)
class WhatIf:
    """`bits` of a weight that stays, None for as it is stored; a 16-bit scale for each `group` where it is quantized."""

    sparsity: float = 0.0
    bits: int | None = None
    group: int = 128


def parse(text: str) -> WhatIf:
    """What was typed, as in EXAMPLE. Raises UsageError."""
    values: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        key, _, number = word.partition("=")
        if key not in ("sparsity", "bits", "group") or not re.fullmatch(r"\d*\.?\d+%?", number):
            raise UsageError(f"cannot read {word!r}", hint=EXAMPLE)
        values[key] = float(number.rstrip("%")) / (100 if number.endswith("%") else 1)
    sparsity, bits, group = values.get("sparsity", 0.0), values.get("bits"), values.get("group", 128)
    if not 0 <= sparsity < 1:
        raise UsageError("sparsity is a share in [0, 1)", hint=EXAMPLE)
    if (bits is not None and not 1 <= bits <= WIDEST) or group < 1:
        raise UsageError(f"bits are 1 to {WIDEST}, a group is 1 weight or more", hint=EXAMPLE)
    return WhatIf(sparsity, None if bits is None else int(bits), int(group))


class Taken(NamedTuple):
    """Bytes of a whole model on disk, and in memory when it is loaded."""

    disk: int
    memory: int


def sizes(summary: ModelSummary, asked: WhatIf) -> Mapping[str, Taken]:
    """The whole model as it is and as it would be, by how the zeros are stored.

    A mask costs one bit a weight and is worth it where the zeros save more; 2:4 keeps half of the weights and two bits of
    place for each. In memory codes and 2:4 stay packed, a mask is unpacked, and 1,000 tokens have their keys and values.
    """
    from engine.summary import kv_cache_per_1k

    inside = [t for t in summary.tensors if len(t.shape) >= 2 and t.parameters and block_of(t.name) is not None]
    rest = summary.bytes - sum(tensor.bytes for tensor in inside)
    taken = [_taken(tensor, asked) for tensor in inside]
    stored, masked, packed = (rest + sum(sizes[kind] for sizes in taken) for kind in range(3))
    cache = kv_cache_per_1k(summary) or 0
    found = {"now": Taken(summary.bytes, summary.bytes + cache), "zeros stored": Taken(stored, stored + cache)}
    if asked.sparsity:
        found["zeros masked"] = Taken(masked, stored + cache)
    if asked.sparsity == 0.5:
        found["2:4 packed"] = Taken(packed, packed + cache)
    return found


def _taken(tensor: TensorInfo, asked: WhatIf) -> tuple[int, int, int]:
    """Bytes of a matrix with its zeros stored, masked, and packed as 2:4."""
    count, kept = tensor.parameters, round(tensor.parameters * (1 - asked.sparsity))
    bits = 8 * tensor.bytes / count if asked.bits is None else asked.bits
    scales = 0 if asked.bits is None else SCALE_BITS * math.ceil(count / asked.group)
    sizes = (count * bits, kept * bits + count, count / 2 * (bits + 2))
    stored, masked, packed = (math.ceil((size + scales) / 8) for size in sizes)
    return stored, masked, packed


def table(summary: ModelSummary, asked: WhatIf) -> list[str]:
    """What it would take, a line each: on disk and loaded, each with its change against now."""
    found = sizes(summary, asked)
    head = f"{'':<13}{'on disk':>9}{'change':>8}{'loaded':>11}{'change':>8}"
    rows = [
        f"{name:<13}{figures.size(taken.disk):>9}{_change(taken.disk, found['now'].disk):>8}"
        f"{figures.size(taken.memory):>11}{_change(taken.memory, found['now'].memory):>8}"
        for name, taken in found.items()
    ]
    return [_said(asked), head, *rows, LOADED]


def narrow(summary: ModelSummary, asked: WhatIf) -> list[str]:
    """The same for a narrow pane, a line a figure."""
    found = sizes(summary, asked)
    rows = [
        f"{label:<13}{figures.size(value):>9}{_change(value, now):>8}"
        for name, taken in found.items()
        for label, value, now in zip((name, "  loaded"), taken, found["now"], strict=True)
    ]
    return [_said(asked), *rows, LOADED]


def _said(asked: WhatIf) -> str:
    zeros = f"{figures.share(asked.sparsity)} zeros" if asked.sparsity else "no zeros"
    width = "as stored" if asked.bits is None else f"{asked.bits} bits, groups of {asked.group}"
    return f"{zeros}, {width}"


def _change(value: int, now: int) -> str:
    return f"{value / now - 1:+.1%}" if value != now else ""


def problem(text: str) -> str | None:
    """What is wrong with a line, None where nothing is."""
    try:
        parse(text)
    except UsageError as error:
        return error.message
    return None
