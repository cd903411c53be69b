"""The `prune` step: allocation, one walk over the calibration data, a checkpoint after every block, the assertions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine import events as ev
from engine import grams
from engine.calibration import Visit, Walk
from engine.checkpoints import BlockCheckpoints
from engine.errors import EngineError, UsageError
from engine.matrices import Matrix, Statistics, output_error
from engine.pruning import allocation, structured
from engine.pruning.allocation import Request
from engine.pruning.criterion import Criterion, Settings, generator
from engine.pruning.masks import Pattern
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA
from engine.workspace import Workspace


@dataclass
class Pruning:
    """One prune step at work: what to do, and what was done so far."""

    workspace: Workspace
    criterion: Criterion
    settings: Settings
    pattern: Pattern
    shares: dict[str, float]
    total: int
    done: int = 0
    unreached: int = 0

    def pattern_of(self, matrix: Matrix) -> Pattern:
        """With the matrix's own share of the zeros."""
        return replace(self.pattern, sparsity=self.shares[matrix.name])

    def matrices(self, matrices: list[Matrix], statistics: Statistics) -> None:
        """Prunes the matrices that share this input, in place."""
        self.workspace.check_stop()
        began = time.perf_counter()
        patterns = [self.pattern_of(m) for m in matrices]
        before = [m.weight.float() for m in matrices]
        generators = [generator(self.workspace.profile.seed, m.name) for m in matrices]
        after = self.criterion.prune(before, statistics, patterns, self.settings, generators)
        seconds = (time.perf_counter() - began) / sum(m.weight.numel() for m in matrices)
        for matrix, pattern, old, new in zip(matrices, patterns, before, after, strict=True):
            stored = new.to(matrix.weight.dtype)
            check_result(matrix.name, stored, pattern)
            error = output_error(old, stored.float(), statistics.rows)
            matrix.weight.copy_(stored)
            self.done += 1
            self.unreached += statistics.tokens == 0
            self._tell(matrix, error, seconds * stored.numel())

    def _tell(self, matrix: Matrix, error: float | None, seconds: float) -> None:
        event = ev.LayerPruned(
            step=self.workspace.step, layer=matrix.name, block=matrix.block, shape=list(matrix.shape),
            sparsity=sparsity_of(matrix.weight), error=error, seconds=round(seconds, 4), done=self.done, total=self.total,
        )  # fmt: skip
        self.workspace.emit(event)


def run(workspace: Workspace, options: PruneOptions) -> dict[str, Any]:
    """Prunes the workspace's model in place; returns the step's summary."""
    if options.structure:
        return structured.run(workspace, options)
    criterion: Criterion = CRITERIA.load(options.criterion).CRITERION
    walk = Walk.over(workspace)
    kept = BlockCheckpoints(workspace)
    pruning = plan(workspace, walk, options, criterion)
    threshold = None
    if options.criterion == "importance":
        threshold = max(thresholds(walk, pruning))
    zeros = 0
    dense, want_gram = options.statistics == "dense", criterion.needs == "gram"
    for block in grams.passes(
        workspace, walk, lambda index: visit(pruning, walk, index), dense=dense, want_gram=want_gram
    ):
        kept.save(block, walk.weights(block))
        zeros += sum(int((m.weight == 0).sum()) for m in walk.of_block(block))
        workspace.progress("pruning", block + 1, walk.blocks(), "blocks")
    if pruning.unreached:
        workspace.log(f"{pruning.unreached} matrices met no calibration token; magnitude decided there", "warning")
    return summary(workspace, walk.matrices, options, zeros, threshold)


def restore(workspace: Workspace, options: PruneOptions) -> None:
    """Puts the weights of a finished prune step back."""
    if options.structure:
        structured.restore(workspace, options)
        return
    walk = Walk.over(workspace)
    BlockCheckpoints(workspace).restore([walk.weights(block) for block in range(walk.blocks())])


def plan(workspace: Workspace, walk: Walk, options: PruneOptions, criterion: Criterion) -> Pruning:
    """The pattern, the split of the sparsity over the matrices, the solver's numbers. What was tried for it is not kept."""
    scope = criterion.scope if options.scope == "auto" else options.scope
    pattern = Pattern(options.amount, options.n_of_m, scope, options.threshold)
    check_options(walk.matrices, options)
    shares = allocation.plan(Request(workspace, walk, options)).shares
    settings = Settings(options.damping, options.block_size, options.iterations, options.polish)
    return Pruning(workspace, criterion, settings, pattern, shares, len(walk.matrices))


def check_options(matrices: list[Matrix], options: PruneOptions) -> None:
    """Raises UsageError, before anything is changed, when a matrix cannot have the pattern or would be emptied."""
    pattern = Pattern(options.amount, options.n_of_m)
    for matrix in matrices:
        pattern.check(matrix.name, matrix.shape)
    allocation.check(matrices, options)
    if options.threshold is not None:
        check_threshold(matrices, options.threshold)


def visit(pruning: Pruning, walk: Walk, block: int) -> Visit | None:
    """What to do in a block: prune it, or nothing when an earlier process has."""
    if BlockCheckpoints(pruning.workspace).load(block, walk.weights(block)):
        pruning.done += len(walk.of_block(block))
        return None
    return pruning.matrices


def check_threshold(matrices: list[Matrix], threshold: float) -> None:
    """Raises UsageError when the threshold would empty a matrix; names the largest that keeps anything everywhere."""
    largest = {m.name: float(importance(m.weight).max()) for m in matrices}
    limit = min(largest.values())
    emptied = [name for name, value in largest.items() if value < threshold]
    if emptied:
        message = f"threshold {threshold:g} removes every weight of {len(emptied)} of {len(matrices)} matrices"
        below = limit * (1 - 5e-6)  # so that what is shown, rounded, still serves
        hint = f"the largest threshold that keeps anything everywhere is {below:.6g}"
        raise UsageError(message, where=emptied[0], hint=hint)


def check_result(name: str, weight_OI: torch.Tensor, pattern: Pattern) -> None:
    """Raises EngineError when a pruned matrix is not finite or does not have its pattern."""
    if not torch.isfinite(weight_OI).all():
        raise EngineError("pruning produced NaN or infinite weights", where=name, hint="raise the damping")
    zeros = int((weight_OI == 0).sum())
    if pattern.n_of_m:
        n, m = pattern.n_of_m
        holds = bool(((weight_OI != 0).reshape(-1, m).sum(1) <= n).all())
    elif pattern.threshold is not None:
        holds = zeros < weight_OI.numel()
    else:
        per_row = round(pattern.sparsity * weight_OI.shape[1]) * weight_OI.shape[0]
        holds = zeros >= min(per_row, round(pattern.sparsity * weight_OI.numel()))
    if not holds:
        raise EngineError(f"the pattern does not hold: {zeros} of {weight_OI.numel()} weights are zero", where=name)


def sparsity_of(weight: torch.Tensor) -> float:
    return float((weight == 0).sum()) / weight.numel()


def summary(
    workspace: Workspace, matrices: list[Matrix], options: PruneOptions, zeros: int, threshold: float | None
) -> dict[str, Any]:
    """Sparsity over all matrices, their share of the block weights, and the largest threshold that the rate came to."""
    numel = sum(m.weight.numel() for m in matrices)
    blocks = sum(p.numel() for block in workspace.subject.blocks() for p in block.parameters())
    errors = [layer.error for layer in workspace.state.layers.values() if layer.error is not None]
    out = {
        "criterion": options.criterion, "pattern": options.pattern, "sparsity": zeros / numel,
        "matrices": len(matrices), "covered": numel / blocks, "mean_error": sum(errors) / len(errors) if errors else None,
    }  # fmt: skip
    return out if threshold is None else {**out, "threshold": threshold}


def thresholds(walk: Walk, pruning: Pruning) -> Iterator[float]:
    """Every matrix's equal threshold."""
    for block in range(walk.blocks()):
        with walk.holding(block):
            yield from [equal_threshold(m.weight, pruning.pattern_of(m)) for m in walk.of_block(block)]


def importance(weight_OI: torch.Tensor) -> torch.Tensor:
    """I_i = |w_i| / sum|w_j| in float32: the sum of a large matrix is beyond float16, and rough in bfloat16."""
    size_OI = weight_OI.float().abs()
    return size_OI / size_OI.sum()


def equal_threshold(weight_OI: torch.Tensor, pattern: Pattern) -> float:
    """The threshold on I_i = |w_i| / sum|w_j| that keeps what this pattern keeps: the smallest importance that stays."""
    importance_OI = importance(weight_OI)
    return float(importance_OI[pattern.keep(importance_OI)].min())
