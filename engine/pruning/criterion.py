"""What a criterion is: a *score* (what scores lowest goes) or a *solver* (which also updates what stays)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from engine.matrices import Statistics
from engine.pruning.masks import Pattern, Scope

Needs = Literal["nothing", "diagonal", "gram"]


@dataclass(frozen=True)
class Settings:
    """Numbers of the solvers: damping as a share of the Gram matrix's mean diagonal, columns per mask decision."""

    damping: float = 0.01
    block_size: int = 128


Score = Callable[[torch.Tensor, Statistics, torch.Generator], torch.Tensor]
Solve = Callable[[torch.Tensor, Statistics, Pattern, Settings], torch.Tensor]


@dataclass(frozen=True)
class Criterion:
    """`needs` names the statistics, `scope` who competes in the unstructured pattern (as in the criterion's paper).

    Exactly one of `score(weight [O, I], statistics, generator) -> [O, I]` and
    `solve(weight, statistics, pattern, settings) -> new weight [O, I] with the pattern` is set.
    """

    needs: Needs
    scope: Scope = "layer"
    score: Score | None = None
    solve: Solve | None = None

    def prune(
        self,
        weight_OI: torch.Tensor,
        statistics: Statistics,
        pattern: Pattern,
        settings: Settings,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The pruned weight [O, I] in float32."""
        weight_OI = weight_OI.float()
        if self.solve is not None:
            return self.solve(weight_OI, statistics, pattern, settings)
        assert self.score is not None
        return weight_OI * pattern.keep(self.score(weight_OI, statistics, generator))
