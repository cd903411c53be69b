"""Statistics of every matrix's inputs in one model as it is, collected once and kept in the user's cache.

One calibration pass then serves many methods and sparsities that do not need the inputs as earlier layers' compression
changes them: pruning with `statistics = "dense"`, sensitivity, allocation. The key is the model's weights, the calibration
data and how the pass computes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine import files
from engine.calibration import Walk
from engine.matrices import Matrix, Statistics
from engine.model import weights_hash, writing
from engine.workspace import Workspace

KEPT = 4  # entries in the cache; the longest unused goes first


@dataclass(frozen=True)
class Grams:
    """The statistics on disk: one file a block, one entry a group of matrices that share an input."""

    folder: Path
    walk: Walk

    @classmethod
    def of(cls, workspace: Workspace, walk: Walk) -> Grams:
        """Of the walk's model as it is now; from the cache when they were collected before."""
        grams = cls(files.cache_folder() / "grams" / key(workspace, walk), walk)
        if grams.folder.is_dir():
            os.utime(grams.folder)
            return grams
        grams.folder.parent.mkdir(parents=True, exist_ok=True)
        files.write_folder(grams.folder, lambda part: collect(workspace, walk, part))
        trim(grams.folder.parent)
        return grams

    def groups(self, block: int) -> list[tuple[list[Matrix], Statistics]]:
        """The block's matrices, those that share an input together, with the statistics of that input."""
        groups: dict[int, list[Matrix]] = {}
        for matrix in self.walk.of_block(block):
            groups.setdefault(matrix.group, []).append(matrix)
        return [(matrices, self.statistics(matrices[0])) for matrices in groups.values()]

    def statistics(self, matrix: Matrix) -> Statistics:
        """Of the group whose first matrix this is."""
        device = matrix.weight.device
        with safe_open(self.folder / f"block-{matrix.block}.safetensors", "pt", device=str(device)) as stored:
            tensor = {part: stored.get_tensor(f"{matrix.name}:{part}") for part in ("tokens", "gram", "rows")}
        diagonal = tensor["gram"].diagonal().clone()
        return Statistics(int(tensor["tokens"]), diagonal, tensor["gram"], tensor["rows"])


def collect(workspace: Workspace, walk: Walk, folder: Path) -> None:
    """One pass over the calibration data; a file for every block."""
    found: dict[str, torch.Tensor] = {}

    def note(matrices: list[Matrix], statistics: Statistics) -> None:
        assert statistics.gram is not None
        name = matrices[0].name
        found[f"{name}:tokens"] = torch.tensor(statistics.tokens)
        found[f"{name}:gram"], found[f"{name}:rows"] = statistics.gram, statistics.rows.clone()

    for block in walk.run(lambda index: note, want_gram=True):
        file = folder / f"block-{block}.safetensors"
        with writing(file):
            save_file(found, file)
        found.clear()
        workspace.progress("collecting statistics", block + 1, walk.blocks(), "blocks")


def key(workspace: Workspace, walk: Walk) -> str:
    """Everything that the statistics depend on."""
    inputs = hashlib.blake2b(walk.inputs.cpu().numpy().tobytes(), digest_size=16).hexdigest()
    weights = weights_hash(walk.subject.module, tensors=walk.subject.tensors())
    parts = (weights, inputs, str(walk.compute), walk.chunk, workspace.profile.threads,
             str(walk.subject.device), torch.__version__)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def trim(folder: Path) -> None:
    """Removes the longest unused entries."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[KEPT:]:
        shutil.rmtree(entry, ignore_errors=True)
