"""What matrices would be when pruned by the statistics of the model at hand alone: at any sparsity, or at a ladder of levels
that are made once and then put into the model at no cost. For sensitivity and allocation; nothing here changes the model.

Shapes: O out, I in.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine import files
from engine.calibration import Walk
from engine.grams import Grams
from engine.matrices import Matrix, Statistics
from engine.pruning.criterion import Criterion, Settings, generator
from engine.pruning.masks import Pattern, Scope
from engine.weights import writing
from engine.workspace import Workspace


@dataclass(frozen=True)
class Pruner:
    """A criterion with everything it needs to prune any matrix to any sparsity."""

    criterion: Criterion
    settings: Settings
    scope: Scope
    seed: int

    def prune(
        self, matrices: Sequence[Matrix], statistics: Statistics, shares: Mapping[str, float]
    ) -> list[torch.Tensor]:
        """The new weights [O, I] of matrices that share an input, in their own number format."""
        patterns = [Pattern(shares[m.name], scope=self.scope) for m in matrices]
        generators = [generator(self.seed, m.name) for m in matrices]
        found = self.criterion.prune([m.weight for m in matrices], statistics, patterns, self.settings, generators)
        return [new.to(m.weight.dtype) for new, m in zip(found, matrices, strict=True)]

    def block(self, grams: Grams, block: int, shares: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """{name: new weight} of the block's matrices that are in `shares`."""
        found: dict[str, torch.Tensor] = {}
        for matrices, statistics in grams.groups(block, shares.keys()):
            chosen = [m for m in matrices if m.name in shares]
            new = self.prune(chosen, statistics, shares)
            found |= {m.name: weight for m, weight in zip(chosen, new, strict=True)}
        return found


@contextmanager
def pruned(walk: Walk, grams: Grams, pruner: Pruner, shares: Mapping[str, float]) -> Iterator[None]:
    """With the matrices of `shares` pruned in the model; afterwards they are as they were."""
    dense = {m.name: m.weight.clone() for m in walk.matrices if m.name in shares}
    try:
        for block in range(walk.blocks()):
            new = pruner.block(grams, block, shares)
            for matrix in walk.of_block(block):
                if matrix.name in new:
                    matrix.weight.copy_(new[matrix.name])
        yield
    finally:
        for matrix in walk.matrices:
            if matrix.name in dense:
                matrix.weight.copy_(dense[matrix.name])


@dataclass
class Levels:
    """Every matrix at every sparsity of its ladder (ascending, all of one length), and as it is now.

    A score's masks lie inside each other, so one byte a weight (two from 256 levels on) says at how many levels it stays.
    What a solver makes is written to `folder`, a file for every group of matrices with one input and every level.
    """

    walk: Walk
    ladders: Mapping[str, Sequence[float]]
    folder: Path
    dense: dict[str, torch.Tensor]
    stays: dict[str, torch.Tensor]

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        walk: Walk,
        grams: Grams,
        pruner: Pruner,
        ladders: Mapping[str, Sequence[float]],
        folder: Path,
    ) -> Levels:
        """Made group by group, so that what depends on the input alone is computed once for all levels; files of an earlier
        process are kept. Other ladders need another folder.
        """
        dense = {m.name: m.weight.clone() for m in walk.matrices}
        levels = cls(walk, ladders, folder, dense, {})
        for block in range(walk.blocks()):
            wanted = [m.name for m in walk.of_block(block) if pruner.criterion.score is not None or levels._missing(m)]
            for matrices, statistics in grams.groups(block, wanted):
                levels._make(pruner, matrices, statistics)
            workspace.progress("pruning to every level", block + 1, walk.blocks(), "blocks")
        return levels

    def _make(self, pruner: Pruner, matrices: Sequence[Matrix], statistics: Statistics) -> None:
        """A group at every level, or at those without a file."""
        score = pruner.criterion.score is not None
        for level in range(self.count) if score else self._missing(matrices[0]):
            shares = {m.name: self.ladders[m.name][level] for m in matrices}
            new = dict(zip(shares, pruner.prune(matrices, statistics, shares), strict=True))
            if score:
                self._mark(new)
            else:
                self._write(self._file(matrices[0], level), new)

    def _mark(self, new: Mapping[str, torch.Tensor]) -> None:
        counts = torch.uint8 if self.count < 2**8 else torch.int16
        for name, weight in new.items():
            at = self.stays.setdefault(name, torch.zeros_like(weight, dtype=counts))
            at += weight != 0

    def _write(self, file: Path, new: Mapping[str, torch.Tensor]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = {name: weight.contiguous() for name, weight in new.items()}
        with writing(file):
            files.write_with(file, lambda part: save_file(stored, part))

    @property
    def count(self) -> int:
        """How many levels there are."""
        return max(len(ladder) for ladder in self.ladders.values())

    def _missing(self, matrix: Matrix) -> list[int]:
        """The levels at which the matrix's group has no file yet."""
        return [level for level in range(self.count) if not self._file(matrix, level).is_file()]

    def put(self, matrix: Matrix, level: int | None) -> None:
        """Writes the matrix into the model at a level; None as it was."""
        dense = self.dense[matrix.name]
        if level is None:
            matrix.weight.copy_(dense)
        elif self.stays:
            torch.mul(dense, self.stays[matrix.name] > level, out=matrix.weight)
        else:
            with safe_open(self._file(matrix, level), "pt", device=str(dense.device)) as stored:
                matrix.weight.copy_(stored.get_tensor(matrix.name))

    def leave(self) -> None:
        """Puts the model back as it was."""
        for matrix in self.walk.matrices:
            self.put(matrix, None)

    def remove(self) -> None:
        """Removes the files, once nobody will go on with them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, matrix: Matrix, level: int) -> Path:
        return self.folder / f"block-{matrix.block}-{matrix.group}-{level}.safetensors"
