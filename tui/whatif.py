"""What a model would take if its blocks' matrices were pruned or quantized so far: arithmetic on the headers, nothing is run.

Embeddings, head and norms stay as they are stored, as the steps leave them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import figures
from engine.errors import UsageError
from tui.names import block_of

if TYPE_CHECKING:
    from engine.summary import ModelSummary

EXAMPLE = "sparsity=0.5 bits=4 group=128"
WIDEST = 32
SCALE_BITS = 16


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


def sizes(summary: ModelSummary, asked: WhatIf) -> Mapping[str, int]:
    """Bytes of the whole model as it is and as it would be, by how the zeros are stored.

    A mask costs one bit a weight and is worth it where the zeros save more; 2:4 keeps half of the weights and two bits of
    place for each.
    """
    inside = [t for t in summary.tensors if len(t.shape) >= 2 and block_of(t.name) is not None]
    rest = summary.bytes - sum(tensor.bytes for tensor in inside)
    found = {"now": summary.bytes, "zeros stored": rest, "zeros masked": rest}
    if asked.sparsity == 0.5:
        found["2:4 packed"] = rest
    for tensor in inside:
        count, kept = tensor.parameters, round(tensor.parameters * (1 - asked.sparsity))
        bits = 8 * tensor.bytes / count if asked.bits is None else asked.bits
        scales = 0 if asked.bits is None else SCALE_BITS * math.ceil(count / asked.group)
        found["zeros stored"] += math.ceil((count * bits + scales) / 8)
        found["zeros masked"] += math.ceil((kept * bits + count + scales) / 8)
        if "2:4 packed" in found:
            found["2:4 packed"] += math.ceil((count / 2 * (bits + 2) + scales) / 8)
    return found if asked.sparsity else {name: found[name] for name in ("now", "zeros stored")}


def lines(summary: ModelSummary, asked: WhatIf) -> list[str]:
    """The sizes in words, each with its share of what the model takes now."""
    zeros = f"{figures.share(asked.sparsity)} zeros" if asked.sparsity else "no zeros"
    width = "as stored" if asked.bits is None else f"{asked.bits} bits, groups of {asked.group}"
    found = sizes(summary, asked)
    return [
        f"{zeros}, {width}",
        *(
            f"{name:<13}{figures.size(value):>9}  {figures.share(value / summary.bytes)}"
            for name, value in found.items()
        ),
    ]
