"""Evolution on the divergence from the dense model: units trade steps of sparsity (EvoPress, Sieberling et al. 2024).

Unlike the paper it starts from the best of what is known at little cost: uniform, ramps, the sensitivity allocation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine import figures, files, runs
from engine.evaluation.trial import Trial
from engine.matrices import Matrix
from engine.pruning.allocation import Plan, Request, balanced
from engine.pruning.allocations import sensitivity
from engine.pruning.levels import Levels
from engine.sensitivity.measure import units

MOST = 3
"""trades in one mutation"""

Position = tuple[int, ...]
"""every unit's level"""


def allocate(request: Request) -> Plan:
    """The best position found: from the best start on, `generations` rounds of trades between units of one size."""
    ratios = request.ladder()
    parts = units(request.walk, request.options.unit)
    if len(ratios) == 1 or len(parts) == 1:
        return Plan({m.name: request.sparsity for m in request.matrices})
    middle = ratios.index(request.sparsity)
    wishes = sensitivity.allocate(request).shares
    guess = nearest([level_of(wishes, part, ratios) for part in parts], sizes_of(parts), middle, len(ratios) - 1)
    levels = request.levels(ratios)
    try:
        best = Search(request, parts, levels, request.trial(), middle, guess).run()
    finally:
        levels.leave()
    levels.remove()
    shares = {m.name: ratios[level] for part, level in zip(parts, best, strict=True) for m in part}
    moved = {name: f"the search moved it by {100 * (share - request.sparsity):+.1f} points" for name, share in
             shares.items() if share != request.sparsity}  # fmt: skip
    return Plan(shares, moved)


@dataclass
class Search:
    """A model that is always at one position, and its divergence there on all windows."""

    request: Request
    parts: list[list[Matrix]]
    levels: Levels
    trial: Trial
    middle: int
    guess: Position
    position: Position = ()
    loss: float = 0.0

    def __post_init__(self) -> None:
        self.sizes = sizes_of(self.parts)
        self.file = self.request.workspace.checkpoint("search.json")

    def run(self) -> Position:
        """The best position after all generations; an earlier process's last generation is taken up."""
        options, workspace = self.request.options, self.request.workspace
        stored = runs.read_json(self.file)
        first = stored["generation"] if stored else 0
        self.settle(tuple(stored["position"]) if stored else self.start())
        for generation in range(first, options.generations):
            workspace.progress("searching the allocation", generation, options.generations, "generations")
            chance = random.Random(f"{workspace.profile.seed} {generation}")
            children = [self.mutated(chance) for _ in range(options.offspring)]
            best, loss = self.select(children)
            if loss < self.loss:
                self.settle(best)
            state = {"generation": generation + 1, "position": self.position, "loss": self.loss}
            files.write_text(self.file, json.dumps(state))
        workspace.log(f"allocation found: {figures.number(self.loss, 4)} nats from the dense model")
        return self.position

    def start(self) -> Position:
        """The best of the flat position, ramps over the units and the guess."""
        self.settle((self.middle,) * len(self.parts))
        reach = min(self.middle, len(self.levels.ratios) - 1 - self.middle)
        best, loss = self.position, self.loss
        for tried in [*(ramp(self.sizes, self.middle, k) for k in range(1, reach + 1)), self.guess]:
            if (found := self.judge(tried, self.trial.windows)) < loss:
                best, loss = tried, found
        return best

    def select(self, children: Sequence[Position]) -> tuple[Position, float]:
        """The best child, on more windows the fewer children are left, with its divergence on all windows."""
        for windows, survivors in stages(self.trial.windows, len(children)):
            losses = [self.judge(child, windows) for child in children]
            order = sorted(range(len(children)), key=losses.__getitem__)[:survivors]
            children = [children[i] for i in order]
        return children[0], losses[order[0]]

    def judge(self, child: Position, windows: int) -> float:
        """The child's divergence on the first windows; the model stays at its own position."""
        changed = self.move(self.position, child)
        loss = self.trial.divergence(changed, windows) if changed is not None else self.loss
        self.move(child, self.position)
        return loss

    def settle(self, position: Position) -> None:
        """Takes up a position: weights, hidden states and divergence."""
        changed = self.move(self.position or (None,) * len(self.parts), position)
        if changed is not None:
            self.loss = self.trial.divergence(changed, keep=True)
        self.position = position

    def move(self, old: Sequence[int | None], new: Position) -> int | None:
        """Puts the parts that differ at their new levels; the first block that changed."""
        changed = [i for i in range(len(new)) if old[i] != new[i]]
        for i in changed:
            for matrix in self.parts[i]:
                self.levels.put(matrix, new[i])
        return min((self.parts[i][0].block for i in changed), default=None)

    def mutated(self, chance: random.Random) -> Position:
        """A few trades: one unit a level sparser, another of its size a level denser."""
        child, top = list(self.position), len(self.levels.ratios) - 1
        for _ in range(min(chance.randint(1, MOST), chance.randint(1, MOST))):
            up = [i for i in range(len(child)) if child[i] < top]
            sparser = chance.choice(up) if up else None
            down = [i for i in range(len(child)) if sparser is not None and i != sparser and child[i] > 0
                    and self.sizes[i] == self.sizes[sparser]]  # fmt: skip
            if sparser is not None and down:
                child[sparser] += 1
                child[chance.choice(down)] -= 1
        return tuple(child)


def sizes_of(parts: Sequence[Sequence[Matrix]]) -> list[int]:
    """Weights of every unit."""
    return [sum(m.weight.numel() for m in part) for part in parts]


def level_of(shares: Mapping[str, float], part: Sequence[Matrix], ratios: Sequence[float]) -> float:
    """The mean share of a unit, in levels."""
    size = sum(m.weight.numel() for m in part)
    share = sum(shares[m.name] * m.weight.numel() for m in part) / size
    return (share - ratios[0]) / (ratios[1] - ratios[0])


def nearest(wishes: Sequence[float], sizes: Sequence[int], middle: int, top: int) -> Position:
    """Whole levels near the wishes; every size keeps its mean: what rounding down leaves goes to the largest fractions."""
    levels = [0] * len(sizes)
    for size in set(sizes):
        same = {str(i): wishes[i] for i, other in enumerate(sizes) if other == size}
        moved = balanced(same, dict.fromkeys(same, 1), middle, 0, top)
        missing = middle * len(same) - sum(int(level) for level in moved.values())
        order = sorted(moved, key=lambda i: int(moved[i]) - moved[i])
        for rank, i in enumerate(order):
            levels[int(i)] = int(moved[i]) + (rank < missing)
    return tuple(levels)


def stages(windows: int, offspring: int) -> list[tuple[int, int]]:
    """(windows, survivors) of every selection: all on a quarter of the windows, then the best quarter on all of them."""
    if windows == 1 or offspring == 1:
        return [(windows, 1)]
    return [(max(1, windows // 4), max(1, offspring // 4)), (windows, 1)]


def ramp(sizes: Sequence[int], middle: int, reach: int) -> Position:
    """Levels that rise by 2 * `reach` from the first unit to the last; each size has a ramp of its own, so the mean stays."""
    levels = [middle] * len(sizes)
    for size in set(sizes):
        same = [i for i, other in enumerate(sizes) if other == size]
        for k, i in enumerate(same[: len(same) // 2]):
            step = round(reach * (1 - 2 * k / max(1, len(same) - 1)))
            levels[i] -= step
            levels[same[-1 - k]] += step
    return tuple(levels)
