"""The sparsities of a prune step's blocks while they are edited by hand: changing one, the mean, meeting the target.

Pure numbers; which keys do what and how it looks is in `screens/sharespane`. What is stored is the step's option `shares`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import Unavailable
from engine.state import RunState

if TYPE_CHECKING:
    from engine.profile import Profile

HIGHEST = 0.99
"""no block is set sparser than this"""
EXACT = 5e-4
"""a mean nearer to the target than this meets it"""
IN_BLOCK = re.compile(r"^(?:blk|.*?\b(?:layers|h|blocks))\.(\d+)\.")


@dataclass
class Shares:
    """Sparsity of each block of one step. `sizes` are parameters by block, `target` the asked mean, `at` the cursor."""

    step: int
    target: float
    sizes: dict[int, int]
    values: dict[int, float]
    matrices: dict[str, float] = field(default_factory=dict)
    """shares of single matrices, by name: kept as they are"""
    stored: dict[int, float] = field(default_factory=dict)
    origin: str = "as in the profile"
    """where the values come from, in words"""
    at: int = 0
    by_hand: set[int] = field(default_factory=set)
    """blocks that were changed since the last store: balancing leaves them"""

    def __post_init__(self) -> None:
        self.stored = dict(self.values)

    @property
    def blocks(self) -> list[int]:
        return list(self.values)

    @property
    def block(self) -> int:
        """The block under the cursor."""
        return self.blocks[self.at]

    @property
    def mean(self) -> float:
        """Mean sparsity, weighted by size."""
        return sum(share * self.sizes[block] for block, share in self.values.items()) / sum(self.sizes.values())

    @property
    def changed(self) -> bool:
        return self.values != self.stored

    def move(self, by: int) -> None:
        """Moves the cursor, to the ends at most."""
        self.at = min(len(self.values) - 1, max(0, self.at + by))

    def change(self, by: float) -> None:
        """Makes the block under the cursor sparser or denser."""
        self.values[self.block] = _clipped(self.values[self.block] + by)
        self.by_hand.add(self.block)

    def balance(self) -> bool:
        """Moves the blocks not changed by hand by one number so that the mean meets the target. False where they cannot."""
        start, others = dict(self.values), [block for block in self.values if block not in self.by_hand]
        low, high = -1.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            self.values |= {block: _clipped(start[block] + middle) for block in others}
            low, high = (middle, high) if self.mean < self.target else (low, middle)
        self.values |= {block: round(share, 4) for block, share in self.values.items()}
        return abs(self.mean - self.target) < EXACT

    def reset(self) -> None:
        """Back to what the profile says."""
        self.values = dict(self.stored)
        self.by_hand.clear()

    def keep(self) -> str:
        """Takes the values as the profile's, and says them as a change of it: step.0.shares={0 = 0.45, ...}."""
        self.stored = dict(self.values)
        self.by_hand.clear()
        pairs = [f"{block} = {share:g}" for block, share in self.values.items()]
        pairs += [f'"{name}" = {share:g}' for name, share in self.matrices.items()]
        return f"step.{self.step}.shares={{{', '.join(pairs)}}}"


def editable(profile: Profile) -> list[int]:
    """The indices of the prune steps whose sparsity can differ by block: no N:M, no structure, no threshold."""
    return [
        index
        for index, step in enumerate(profile.step)
        if step.use == "prune" and getattr(step, "pattern", "") == "unstructured" and not getattr(step, "threshold", 0)
    ]


def shares(profile: Profile, step: int, sizes: dict[int, int], plan: Mapping[int, float]) -> Shares:
    """What the step's own shares say, else `plan` where it is one of the same target, else the target everywhere."""
    options = profile.step[step]
    target, own = float(getattr(options, "amount", 0.5)), dict(getattr(options, "shares", {}))
    base = plan if plan.keys() >= sizes.keys() else {}
    origin = "as in the profile" if own else "the plan of the open run" if base else "the same everywhere"
    values = {block: float(own.get(str(block), base.get(block, target))) for block in sizes}
    matrices = {name: share for name, share in own.items() if not name.isdecimal()}
    return Shares(
        step, target, sizes, {block: round(share, 4) for block, share in values.items()}, matrices, origin=origin
    )


def sizes_of_run(state: RunState) -> dict[int, int]:
    """Parameters by block, as a run of the model told them."""
    sizes: dict[int, int] = {}
    for layer in state.layers.values():
        sizes[layer.block] = sizes.get(layer.block, 0) + layer.parameters
    return dict(sorted(sizes.items()))


def sizes_of_model(source: str) -> dict[int, int]:
    """Parameters by block, from a model's file headers: its tensors of two and more dimensions. Raises Unavailable."""
    if source.startswith(("builtin:", "python:")):
        raise Unavailable("made by code: its blocks are known when a run of it is open", where=source)
    from engine import inspection

    sizes: dict[int, int] = {}
    for tensor in inspection.inspect(source).tensors:
        found = IN_BLOCK.match(tensor.name)
        if found and len(tensor.shape) >= 2:
            sizes[int(found[1])] = sizes.get(int(found[1]), 0) + tensor.parameters
    if not sizes:
        raise Unavailable("no blocks in its headers", where=source)
    return dict(sorted(sizes.items()))


def _clipped(share: float) -> float:
    return round(min(HIGHEST, max(0.0, share)), 6)
