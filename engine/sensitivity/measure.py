"""The measurements behind sensitivity: error curves of matrices, and the divergence from the dense model when one part of
it is pruned or silenced. The model is as before afterwards.

Shapes: O out, I in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.calibration import Walk
from engine.evaluation.trial import Trial
from engine.grams import Grams
from engine.matrices import Matrix
from engine.pruning.levels import Pruner
from engine.pruning.quadratic import energy, gram_error

Tell = Callable[[int, int], None]
"""done, total"""


def error_curves(
    walk: Walk, grams: Grams, pruner: Pruner, ratios: Sequence[float], tell: Tell
) -> dict[str, list[float]]:
    """{matrix name: its relative output error at each of the ratios}, all else dense."""
    curves: dict[str, list[float]] = {m.name: [] for m in walk.matrices}
    for block in range(walk.blocks()):
        for matrices, statistics in grams.groups(block):
            assert statistics.gram is not None
            wholes = [energy(m.weight, statistics.gram) for m in matrices]
            for ratio in ratios:
                new = pruner.prune(matrices, statistics, {m.name: ratio for m in matrices})
                for matrix, weight, whole in zip(matrices, new, wholes, strict=True):
                    curves[matrix.name].append(gram_error(matrix.weight, weight, statistics.gram, whole))
        tell(block + 1, walk.blocks())
    return curves


def units(walk: Walk, unit: str) -> list[list[Matrix]]:
    """The matrices that are pruned together to see what the loss moves, in order of calculation."""
    if unit == "matrix":
        return [[matrix] for matrix in walk.matrices]
    return [found for block in range(walk.blocks()) if (found := walk.of_block(block))]


def losses(
    walk: Walk, grams: Grams, pruner: Pruner, trial: Trial, parts: Sequence[Sequence[Matrix]], ratio: float, tell: Tell
) -> list[float]:
    """The divergence from the dense model, above what it is already, when only that part is pruned to the ratio."""
    base, found = trial.divergence(), []
    for number, part in enumerate(parts):
        block = part[0].block
        new = pruner.block(grams, block, {m.name: ratio for m in part})
        before = [m.weight.clone() for m in part]
        try:
            for matrix in part:
                matrix.weight.copy_(new[matrix.name])
            found.append(trial.divergence(block) - base)
        finally:
            for matrix, weight in zip(part, before, strict=True):
                matrix.weight.copy_(weight)
        tell(number + 1, len(parts))
    return found


@dataclass(frozen=True)
class Heads:
    """A block's attention output matrix, whose input columns are the heads, in `groups` that share keys and values."""

    matrix: Matrix
    groups: int


def attention_outputs(walk: Walk) -> list[Heads]:
    """Of every block that has one: the last matrix of the part of the block that is computed first, if it takes all heads."""
    config: Any = getattr(walk.subject.module, "config", None)
    groups = head_groups(config)
    if not walk.subject.is_language_model or not groups:
        return []
    found = []
    for index in range(walk.blocks()):
        matrices = walk.of_block(index)
        part = [m for m in matrices if child(walk, m) == child(walk, matrices[0])]
        if len(part) > 1 and len(part) < len(matrices) and part[-1].shape[1] % config.num_attention_heads == 0:
            found.append(Heads(part[-1], groups))
    return found


def head_groups(config: Any) -> int:
    """How many a block has, of heads that share keys and values; 0 where the configuration (or None) tells of no heads."""
    heads = getattr(config, "num_attention_heads", None)
    return (getattr(config, "num_key_value_heads", None) or heads) if isinstance(heads, int) else 0


def child(walk: Walk, matrix: Matrix) -> str:
    """The name of the block's direct child that holds the matrix."""
    addresses = {
        p.data_ptr(): name.partition(".")[0] for name, p in walk.block(matrix.block).named_parameters() if p.ndim == 2
    }
    return addresses.get(matrix.weight.data_ptr(), "")


def head_losses(trial: Trial, heads: Heads, base: float) -> list[float]:
    """The divergence above `base` when one head group's columns of the attention output are zero, for each group."""
    weight_OI, found = heads.matrix.weight, []
    before = weight_OI.clone()
    width = weight_OI.shape[1] // heads.groups
    for group in range(heads.groups):
        try:
            weight_OI[:, group * width : (group + 1) * width] = 0
            found.append(trial.divergence(heads.matrix.block) - base)
        finally:
            with torch.no_grad():
                weight_OI.copy_(before)
    return found
