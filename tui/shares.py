"""The sparsities of a prune step's blocks while they are edited by hand: changing one, the mean, meeting the target.

Pure numbers; which keys do what and how it looks is in `screens/shares`. What is stored is the step's option `shares`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine import means
from engine.errors import Unavailable
from engine.pruning.balance import HIGHEST, TOLERANCE, balanced, remainder
from engine.state import RunState
from tui.names import block_of, short

if TYPE_CHECKING:
    from engine.profile import Profile

EXACT = 5e-4
"""a mean nearer to the target than this meets it"""
Sizes = dict[int, dict[str, int]]
"""parameters of each matrix of each block, by short names (see `names.short`)"""


@dataclass
class Shares:
    """Sparsity of each block of one step. `sizes` are parameters by block, `target` the asked mean, `at` the cursor."""

    step: int
    target: float
    sizes: dict[int, int]
    """without those of the matrices that have a share of their own"""
    values: dict[int, float]
    matrices: dict[str, float] = field(default_factory=dict)
    """shares of single matrices, by name: kept as they are"""
    named: dict[str, int] = field(default_factory=dict)
    """parameters of `matrices`, of those that the model has"""
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
        """Mean sparsity, weighted by size, matrices with a share of their own included."""
        zeros = sum(self.values[block] * self.sizes[block] for block in self.blocks)
        zeros += sum(self.matrices[name] * size for name, size in self.named.items())
        return zeros / (sum(self.sizes.values()) + sum(self.named.values()))

    @property
    def refused(self) -> bool:
        """Whether a run would not begin with these shares: their mean is too far from the target."""
        return abs(self.mean - self.target) > TOLERANCE

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
        others = [block for block in self.blocks if block not in self.by_hand]
        if any(self.sizes[block] for block in others):
            own = {name: self.matrices[name] for name in self.named} | {b: self.values[b] for b in self.by_hand}
            left = min(HIGHEST, max(0.0, remainder(own, self.named | self.sizes, self.target)))
            moved = balanced({block: self.values[block] for block in others}, self.sizes, left)
            self.values |= {block: round(share, 4) for block, share in moved.items()}
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


def shares(profile: Profile, step: int, sizes: Sizes, plan: Mapping[str, float]) -> Shares:
    """What the step's own shares say, else `plan` ({matrix name: share}) where it covers the model, else the target."""
    options = profile.step[step]
    target, own = float(getattr(options, "amount", 0.5)), dict(getattr(options, "shares", {}))
    planned = _by_block(sizes, plan)
    base = planned if planned.keys() >= sizes.keys() else {}
    origin = "as in the profile" if own else "the plan of the open run" if base else "the same everywhere"
    values = {block: round(float(own.get(str(block), base.get(block, target))), 4) for block in sizes}
    matrices = {name: share for name, share in own.items() if not name.isdecimal()}
    parameters = {name: size for found in sizes.values() for name, size in found.items()}
    named = {name: size for name in matrices if (size := parameters.get(short(name)))}
    apart = {short(name) for name in named}
    left = {block: sum(size for name, size in found.items() if name not in apart) for block, found in sizes.items()}
    return Shares(step, target, left, values, matrices, named, origin=origin)


def sizes_of_run(state: RunState) -> Sizes:
    """Parameters as a run of the model told them; nothing before it is loaded, or once a step has changed its shapes."""
    sizes: Sizes = {}
    if state.model is not None and state.model.step < 0:
        for layer in state.layers.values():
            sizes.setdefault(layer.block, {})[short(layer.name)] = layer.parameters
    return dict(sorted(sizes.items()))


def sizes_of_model(source: str) -> Sizes:
    """Parameters from a model's file headers: its tensors of two and more dimensions in blocks. Raises Unavailable."""
    if source.startswith(("builtin:", "python:")):
        raise Unavailable("made by code: its blocks are known when a run of it is open", where=source)
    from engine import inspection

    sizes: Sizes = {}
    for tensor in inspection.inspect(source).tensors:
        block = block_of(tensor.name)
        if block is not None and len(tensor.shape) >= 2:
            sizes.setdefault(block, {})[short(tensor.name)] = tensor.parameters
    if not sizes:
        raise Unavailable("no blocks in its headers", where=source)
    return dict(sorted(sizes.items()))


def _by_block(sizes: Sizes, plan: Mapping[str, float]) -> dict[int, float]:
    """The plan's mean in each block."""
    planned = {short(name): share for name, share in plan.items()}
    entries = [(block, planned.get(name), size) for block, found in sizes.items() for name, size in found.items()]
    return means.by_block(entries)


def _clipped(share: float) -> float:
    return round(min(HIGHEST, max(0.0, share)), 6)
