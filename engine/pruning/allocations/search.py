"""Evolution on the divergence from the dense model: units trade steps of sparsity (EvoPress, Sieberling et al. 2024).

Unlike the paper it begins with the best of what is known at little cost: uniform and ramps (atp), and sensitivity.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine import figures, files, runs
from engine.evaluation.trial import Trial
from engine.matrices import Matrix
from engine.pruning.allocation import Plan, Request
from engine.pruning.allocations import atp, sensitivity
from engine.pruning.balance import HIGHEST
from engine.pruning.levels import Levels
from engine.sensitivity.measure import units

MOST = 3
"""trades in one mutation"""
ROUNDING = 1e-9
"""of a number of steps"""

Position = tuple[int, ...]
"""every unit's step away from where the search began"""


def allocate(request: Request) -> Plan:
    """From the best known plan, `generations` rounds of trades between units of one size."""
    file = request.workspace.checkpoint("search.json")
    known: dict[str, Any] | None = runs.read_json(file)
    base = Plan(**known["base"]) if known else begin(request)
    parts = units(request.walk, request.options.unit)
    step, reach = request.options.level_step, request.options.levels
    limits = [limit(base.shares, part, step, bounds(base.shares, step * reach)) for part in parts]
    if not any(low < high for low, high in limits) or len(parts) == 1:
        return base
    state = known or {"base": vars(base), "generation": 0, "position": [0] * len(parts)}

    def keep(generation: int, position: Sequence[int]) -> None:
        files.write_text(file, json.dumps({**state, "generation": generation, "position": position}))

    keep(state["generation"], state["position"])
    levels = request.levels(ladders(base.shares, parts, limits, step))
    try:
        search = Search(request, parts, limits, levels, request.trial)
        search.settle(tuple(state["position"]))
        search.run(state["generation"], keep)
    finally:
        levels.leave()
    levels.remove()
    return moved(base, parts, search.position, step)


def begin(request: Request) -> Plan:
    """The plan that diverges least: the best ramp, uniform being one, or the sensitivity allocation."""
    slope, loss = atp.judged(request)
    other = sensitivity.allocate(request)
    return other if request.loss(other.shares) < loss else atp.planned(request, slope)


def bounds(shares: Mapping[str, float], reach: float) -> tuple[float, float]:
    """What any unit may come to, wherever it begins: so far below the densest and above the sparsest of the plan."""
    low, high = min(shares.values()), max(shares.values())
    return max(0.0, low - reach), max(high, min(HIGHEST, high + reach))


def limit(
    shares: Mapping[str, float], part: Sequence[Matrix], step: float, within: tuple[float, float]
) -> tuple[int, int]:
    """How many steps denser (negative) and sparser a unit may become."""
    low, high = min(shares[m.name] for m in part), max(shares[m.name] for m in part)
    return -int((low - within[0]) / step + ROUNDING), int((within[1] - high) / step + ROUNDING)


def ladders(
    shares: Mapping[str, float], parts: Sequence[Sequence[Matrix]], limits: Sequence[tuple[int, int]], step: float
) -> dict[str, list[float]]:
    """Every matrix's sparsities from its unit's lower limit on, all lists as long as the longest: ends are repeated."""
    count = max(high - low for low, high in limits) + 1
    return {m.name: [max(0.0, shares[m.name] + step * min(low + k, high)) for k in range(count)]
            for part, (low, high) in zip(parts, limits, strict=True) for m in part}  # fmt: skip


def moved(base: Plan, parts: Sequence[Sequence[Matrix]], position: Position, step: float) -> Plan:
    """The plan at a position."""
    by = {m.name: level for part, level in zip(parts, position, strict=True) for m in part if level}
    reasons = {name: f"moved {100 * step * level:+.1f} points by the search" for name, level in by.items()}
    words = {name: "; ".join(filter(None, [base.reasons.get(name), reasons.get(name)])) for name in base.shares}
    shares = {name: share + step * by.get(name, 0) for name, share in base.shares.items()}
    return replace(base, shares=shares, reasons={name: text for name, text in words.items() if text})


@dataclass
class Search:
    """A model that is always at one position, and its divergence there on all windows."""

    request: Request
    parts: list[list[Matrix]]
    limits: list[tuple[int, int]]
    levels: Levels
    trial: Trial
    position: Position = ()
    loss: float = 0.0

    def __post_init__(self) -> None:
        self.sizes = [sum(m.weight.numel() for m in part) for part in self.parts]

    def run(self, first: int, keep: Callable[[int, Position], None]) -> None:
        """Generations from `first` on; a child is taken up when it diverges less. `keep` is told after each."""
        options, workspace = self.request.options, self.request.workspace
        began = self.loss
        for generation in range(first, options.generations):
            workspace.progress("searching the allocation", generation, options.generations, "generations")
            chance = random.Random(f"{workspace.profile.seed} {generation}")
            best, loss = self.select([self.mutated(chance) for _ in range(options.offspring)])
            if loss < self.loss:
                self.settle(best)
            keep(generation + 1, self.position)
        gain = f"{figures.number(began, 4)} to {figures.number(self.loss, 4)}"
        workspace.log(f"the search brought the divergence from the dense model from {gain} nats a token")

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
                self.levels.put(matrix, new[i] - self.limits[i][0])
        return min((self.parts[i][0].block for i in changed), default=None)

    def mutated(self, chance: random.Random) -> Position:
        """A few trades: one unit a step sparser, another of its size a step denser."""
        child = list(self.position)
        for _ in range(min(chance.randint(1, MOST), chance.randint(1, MOST))):
            up = [i for i in range(len(child)) if child[i] < self.limits[i][1]]
            sparser = chance.choice(up) if up else None
            down = [i for i in range(len(child)) if sparser is not None and i != sparser
                    and child[i] > self.limits[i][0] and self.sizes[i] == self.sizes[sparser]]  # fmt: skip
            if sparser is not None and down:
                child[sparser] += 1
                child[chance.choice(down)] -= 1
        return tuple(child)


def stages(windows: int, offspring: int) -> list[tuple[int, int]]:
    """(windows, survivors) of every selection: all on a quarter of the windows, then the best quarter on all of them."""
    if windows == 1 or offspring == 1:
        return [(windows, 1)]
    return [(max(1, windows // 4), max(1, offspring // 4)), (windows, 1)]
