"""What a criterion is: a *score* (what scores lowest goes) or a *solver* (which also updates what stays)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engine.matrices import Statistics
from engine.pruning.masks import Pattern, Scope, Stack

Needs = Literal["nothing", "diagonal", "gram"]
WORK = 2**28
"""weights that a solver works on at a time, 1 GB a copy in float32; larger layers go through in chunks of rows"""


@dataclass(frozen=True)
class Settings:
    """Numbers of the solvers: damping as a share of the Gram matrix's mean diagonal, columns per mask decision (SparseGPT),
    iterations and conjugate-gradient steps (ADMM).
    """

    damping: float = 0.01
    block_size: int = 128
    iterations: int = 40
    polish: int = 10


Score = Callable[[torch.Tensor, Statistics, torch.Generator], torch.Tensor]
Solve = Callable[[torch.Tensor, Statistics, Stack, Settings], torch.Tensor]


@dataclass(frozen=True)
class Criterion:
    """`needs` names the statistics, `scope` who competes in the unstructured pattern (as in the criterion's paper).

    Exactly one of `score(weight [O, I], statistics, generator) -> [O, I]` and
    `solve(weight, statistics, stack, settings) -> new weight [O, I]` is set; a solver gets the matrices that share an input
    one above the other, so that what depends on the input alone is computed once.
    """

    needs: Needs
    scope: Scope = "layer"
    score: Score | None = None
    solve: Solve | None = None

    def prune(
        self,
        weights: Sequence[torch.Tensor],
        statistics: Statistics,
        patterns: Sequence[Pattern],
        settings: Settings,
        generators: Sequence[torch.Generator],
    ) -> list[torch.Tensor]:
        """The pruned weights [O, I] in float32, of matrices that share an input."""
        floats = [weight.float() for weight in weights]
        if self.solve is not None:
            stack = Stack(tuple(len(w) for w in floats), tuple(patterns))
            return stack.split(self._in_chunks(torch.cat(floats), statistics, stack, settings))
        assert self.score is not None
        triples = zip(floats, patterns, generators, strict=True)
        return [w * pattern.keep(self.score(w, statistics, generator)) for w, pattern, generator in triples]

    def _in_chunks(
        self, weight_OI: torch.Tensor, statistics: Statistics, stack: Stack, settings: Settings
    ) -> torch.Tensor:
        """The solver on as many rows at a time as WORK allows; the chunks' counts add up to the whole's."""
        assert self.solve is not None
        width = weight_OI.shape[1]
        chunks = stack.of_rows(max(1, WORK // width), width)
        parts = torch.split(weight_OI, [sum(chunk.rows) for chunk in chunks])
        solved = [self.solve(part, statistics, chunk, settings) for part, chunk in zip(parts, chunks, strict=True)]
        return solved[0] if len(solved) == 1 else torch.cat(solved)


def generator(seed: int, name: str) -> torch.Generator:
    """Random numbers that depend on the seed and the name alone, so that resume draws the same."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
