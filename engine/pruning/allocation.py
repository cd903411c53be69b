"""What an allocation is: it splits the asked sparsity over the matrices. The plan is made once, before anything is changed,
kept for resume, and told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from engine import events as ev
from engine import files, runs
from engine.calibration import Walk
from engine.errors import UsageError, did_you_mean
from engine.evaluation.trial import Trial
from engine.grams import Grams
from engine.matrices import Matrix
from engine.pruning.balance import HIGHEST, TOLERANCE, balanced, remainder
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.levels import Levels, Pruner, pruned
from engine.pruning.options import PruneOptions
from engine.registry import ALLOCATIONS, CRITERIA
from engine.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """{matrix name: sparsity}, whose mean weighted by size is the asked one; a few words on why, where there are any."""

    shares: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What an allocation gets: the model, the step's options, and the means to try things on them."""

    workspace: Workspace
    walk: Walk
    options: PruneOptions

    @property
    def matrices(self) -> list[Matrix]:
        return self.walk.matrices

    @property
    def sparsity(self) -> float:
        return self.options.amount

    @property
    def sizes(self) -> dict[str, int]:
        return {m.name: m.weight.numel() for m in self.matrices}

    @cached_property
    def grams(self) -> Grams:
        """The statistics of every matrix's inputs in the model as it was when they were first asked for."""
        return Grams.of(self.workspace, self.walk)

    @cached_property
    def pruner(self) -> Pruner:
        """The criterion that prunes for trials: the option `proxy`."""
        options = self.options
        criterion: Criterion = CRITERIA.load(options.proxy).CRITERION
        settings = Settings(options.damping, options.block_size, options.iterations, options.polish)
        return Pruner(criterion, settings, criterion.scope, self.workspace.profile.seed)

    @cached_property
    def trial(self) -> Trial:
        """The model on the first calibration windows, as it was when this was first asked for."""
        return Trial.of(self.workspace, self.options.trial_windows)

    def loss(self, shares: Mapping[str, float]) -> float:
        """The divergence from the dense model when pruned so; the model is as before afterwards."""
        grams, trial = self.grams, self.trial  # in this order: no trial is held while statistics are collected
        with pruned(self.walk, grams, self.pruner, shares):
            return trial.divergence()

    def levels(self, ladders: Mapping[str, Sequence[float]]) -> Levels:
        """Every matrix at every sparsity of its ladder."""
        folder = self.workspace.checkpoint("levels")
        return Levels.of(self.workspace, self.walk, self.grams, self.pruner, ladders, folder)

    def by_block(self, wishes: Sequence[float], low: float = 0.0, high: float = HIGHEST) -> dict[str, float]:
        """Every matrix gets what its block is to have, shifted to the asked mean."""
        return balanced({m.name: wishes[m.block] for m in self.matrices}, self.sizes, self.sparsity, low, high)


Allocate = Callable[[Request], Plan]


def ladder(options: PruneOptions) -> list[float]:
    """The sparsities around the asked one that a matrix may have, ascending; the asked one is among them."""
    asked, step, reach = options.amount, options.level_step, options.levels
    steps = [asked + step * k for k in range(-reach, reach + 1)]
    return [s for s in steps if 0 <= s <= HIGHEST] if asked <= HIGHEST else [asked]


def plan(request: Request) -> Plan:
    """The step's plan: as an earlier process made it, or made now and kept; told either way, before anything is changed."""
    workspace, options = request.workspace, request.options
    file = workspace.checkpoint("plan.json")
    stored = runs.read_json(file)
    made = Plan(**stored) if stored else make(request)
    if not stored:
        files.write_text(file, json.dumps(asdict(made)))
    if options.threshold is None:
        allocation = "own shares" if options.shares else options.allocation
        workspace.emit(
            ev.SparsityPlanned(
                step=workspace.step, allocation=allocation, sparsity=options.amount, shares=made.shares,
                reasons=made.reasons,
            )
        )  # fmt: skip
    return made


def make(request: Request) -> Plan:
    """What the allocation says, with the user's own shares put in and the rest moved to keep the mean."""
    own = pinned(request.matrices, request.options)
    sizes = request.sizes
    if own.keys() == sizes.keys():  # nothing is left to move: what rounding in the shares left over is spread
        return Plan(balanced(own, sizes, request.sparsity), dict.fromkeys(own, "as asked"))
    allocate: Allocate = ALLOCATIONS.load(request.options.allocation).allocate
    base = allocate(request)
    if not own:
        return base
    free = {name: share for name, share in base.shares.items() if name not in own}
    rest = balanced(free, sizes, remainder(own, sizes, request.sparsity))
    return replace(base, shares={name: own.get(name, rest.get(name, 0.0)) for name in sizes},
                   reasons=base.reasons | dict.fromkeys(own, "as asked"))  # fmt: skip


def pinned(matrices: Sequence[Matrix], options: PruneOptions) -> dict[str, float]:
    """The option `shares` by matrix name; a matrix's own entry goes before its block's."""
    by_block = {m.name: options.shares[str(m.block)] for m in matrices if str(m.block) in options.shares}
    return by_block | {m.name: options.shares[m.name] for m in matrices if m.name in options.shares}


def check(matrices: Sequence[Matrix], options: PruneOptions) -> None:
    """Raises UsageError when the sparsity cannot be split as the options ask."""
    chosen = options.allocation != "uniform" or bool(options.shares)
    if chosen and (options.pattern != "unstructured" or options.threshold is not None):
        what = f"pattern {options.pattern}" if options.pattern != "unstructured" else "a threshold"
        raise UsageError(f"{what} fixes every matrix's sparsity: nothing is left to allocate", where="step.allocation",
                         hint='allocation = "uniform" and no shares')  # fmt: skip
    if options.shares:
        check_shares(matrices, options)


def check_shares(matrices: Sequence[Matrix], options: PruneOptions) -> None:
    """Raises UsageError for a share of nothing, or shares that leave no way to the asked mean."""
    sizes = {m.name: m.weight.numel() for m in matrices}
    blocks = {str(m.block) for m in matrices}
    for key in options.shares:
        if key not in sizes and key not in blocks:
            hint = (
                did_you_mean(key, sizes) if len(sizes) <= 20 else f"a matrix's name or a block, 0 to {len(blocks) - 1}"
            )
            raise UsageError("no such matrix or block", where=f"step.shares.{key}", hint=hint)
    own = pinned(matrices, options)
    free = len(own) < len(sizes)
    if free and not 0 <= remainder(own, sizes, options.amount) <= max(HIGHEST, options.amount):
        left = remainder(own, sizes, options.amount)
        raise UsageError(f"the other matrices would need a sparsity of {left:.3f} to keep the mean {options.amount:g}",
                         where="step.shares", hint="change the shares or the step's sparsity")  # fmt: skip
    mean = sum(share * sizes[name] for name, share in own.items()) / sum(sizes.values())
    if not free and abs(mean - options.amount) > TOLERANCE:
        raise UsageError(f"the shares' mean is {mean:.4f}, not the step's sparsity {options.amount:g}",
                         where="step.shares", hint=f"sparsity = {mean:.4f}")  # fmt: skip
