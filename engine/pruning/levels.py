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
        for matrices, statistics in grams.groups(block):
            chosen = [m for m in matrices if m.name in shares]
            if chosen:
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


def gram_error(before_OI: torch.Tensor, after_OI: torch.Tensor, gram_II: torch.Tensor) -> float:
    """tr((W - W')G(W - W')ᵀ) / tr(WGWᵀ): the relative output error over all calibration tokens."""
    before, difference = before_OI.float(), (before_OI - after_OI).float()
    whole = float(((before @ gram_II) * before).sum())
    return float(((difference @ gram_II) * difference).sum()) / max(1e-30, whole)


@dataclass
class Levels:
    """Every matrix at every sparsity of its ladder (ascending, all of one length), and as it is now.

    A score's masks lie inside each other, so one byte a weight says at how many levels it stays. What a solver makes is
    written to `folder`, a file for every block and level.
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
        """Made block by block; files of an earlier process are kept. Other ladders need another folder."""
        dense = {m.name: m.weight.clone() for m in walk.matrices}
        levels = cls(walk, ladders, folder, dense, {})
        for block in range(walk.blocks()):
            for level in range(max(len(ladder) for ladder in ladders.values())):
                levels._make(grams, pruner, block, level)
            workspace.progress("pruning to every level", block + 1, walk.blocks(), "blocks")
        return levels

    def _make(self, grams: Grams, pruner: Pruner, block: int, level: int) -> None:
        file = self._file(block, level)
        shares = {m.name: self.ladders[m.name][level] for m in self.walk.of_block(block)}
        if pruner.criterion.score is not None:
            for name, weight in pruner.block(grams, block, shares).items():
                at = self.stays.setdefault(name, (self.dense[name] != 0).to(torch.uint8) * 0)
                at += weight != 0
        elif not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            stored = {name: weight.contiguous() for name, weight in pruner.block(grams, block, shares).items()}
            with writing(file):
                files.write_with(file, lambda part: save_file(stored, part))

    def put(self, matrix: Matrix, level: int | None) -> None:
        """Writes the matrix into the model at a level; None as it was."""
        dense = self.dense[matrix.name]
        if level is None:
            matrix.weight.copy_(dense)
        elif self.stays:
            torch.mul(dense, self.stays[matrix.name] > level, out=matrix.weight)
        else:
            with safe_open(self._file(matrix.block, level), "pt", device=str(dense.device)) as stored:
                matrix.weight.copy_(stored.get_tensor(matrix.name))

    def leave(self) -> None:
        """Puts the model back as it was."""
        for matrix in self.walk.matrices:
            self.put(matrix, None)

    def remove(self) -> None:
        """Removes the files, once nobody will go on with them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, block: int, level: int) -> Path:
        return self.folder / f"block-{block}-{level}.safetensors"
