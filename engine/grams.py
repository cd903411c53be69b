"""Statistics of every matrix's inputs in one model as it is, collected once and kept in the user's cache.

One calibration pass then serves many methods and sparsities that do not need the inputs as earlier layers' compression
changes them: pruning with `statistics = "dense"`, sensitivity, allocation. The key is the model's weights, the calibration
data and how the pass computes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine import caching, files
from engine.calibration import Visit, Walk
from engine.errors import EngineError
from engine.matrices import SAMPLE, Matrix, Statistics
from engine.weights import weights_hash, writing
from engine.workspace import Workspace

LAYOUT = 2  # of the files; part of the key, so that older entries are not read
KEPT = 4  # entries in the cache; the longest unused goes first
SPARED = (
    3600.0  # seconds since its last use in which an entry stays, however many there are: a run may be at work with it
)
PARTS = ("tokens", "gram", "rows")


@dataclass(frozen=True)
class Grams:
    """The statistics on disk: one file a group of matrices that share an input, named after the first of them."""

    folder: Path
    walk: Walk

    @classmethod
    def of(cls, workspace: Workspace, walk: Walk) -> Grams:
        """Of the walk's model as it is now; from the cache when they were collected before."""
        grams = cls(files.cache_folder() / "grams" / key(workspace, walk), walk)
        if not grams.complete():
            grams.folder.parent.mkdir(parents=True, exist_ok=True)
            check_space(walk, grams.folder.parent, without(workspace))
            files.write_folder(grams.folder, lambda part: collect(workspace, walk, part))
        with grams.there():
            os.utime(grams.folder)
        trim(grams.folder.parent)
        return grams

    def complete(self) -> bool:
        """Whether every group's file is there and whole."""
        return all(readable(file_of(self.folder, first)) for first in firsts(self.walk))

    def groups(self, block: int, names: Collection[str] | None = None) -> Iterator[tuple[list[Matrix], Statistics]]:
        """The block's matrices, those that share an input together, with the statistics of that input: one after the
        other, so that one Gram matrix is in memory at a time. With `names`, groups without any of these are not read.
        """
        with self.there():
            os.utime(self.folder)  # in use: another process that trims the cache takes others first
        for matrices in self.walk.groups(block).values():
            if names is not None and not any(m.name in names for m in matrices):
                continue
            yield matrices, self.statistics(matrices[0])

    def statistics(self, matrix: Matrix) -> Statistics:
        """Of the group whose first matrix this is."""
        device = matrix.weight.device
        with self.there(), safe_open(file_of(self.folder, matrix), "pt", device=str(device)) as stored:
            tensor = {part: stored.get_tensor(part) for part in PARTS}
        diagonal = tensor["gram"].diagonal().clone()
        return Statistics(int(tensor["tokens"]), diagonal, tensor["gram"], tensor["rows"])

    @contextmanager
    def there(self) -> Iterator[None]:
        """Raises EngineError inside when the entry has gone since: another process has trimmed or emptied the cache."""
        try:
            yield
        except FileNotFoundError as error:
            hint = "resuming the run collects the statistics again"
            raise EngineError("the statistics have left the cache", where=str(self.folder), hint=hint) from error


def passes(
    workspace: Workspace, walk: Walk, visit: Callable[[int], Visit | None], *, dense: bool, want_gram: bool
) -> Iterator[int]:
    """Changes weights block by block, in one walk or with the statistics of the model as it is (`dense`); yields each block
    when it is done. `visit(block)` says what to do with its matrices, None when an earlier process has.
    """
    if not dense:
        yield from walk.run(visit, want_gram)
        return
    # looked for again, as a long search may have left the cache to be trimmed; before anything is changed or put back
    grams = Grams.of(workspace, walk)
    for block in range(walk.blocks()):
        with walk.holding(block):
            action = visit(block)
            if action is not None:
                for matrices, statistics in grams.groups(block):
                    action(matrices, statistics)
            yield block


def firsts(walk: Walk) -> list[Matrix]:
    """The first matrix of every group."""
    found: dict[tuple[int, int], Matrix] = {}
    for matrix in walk.matrices:
        found.setdefault((matrix.block, matrix.group), matrix)
    return list(found.values())


def file_of(folder: Path, first: Matrix) -> Path:
    return folder / f"{first.name}.safetensors"


def readable(file: Path) -> bool:
    """False for a file that is missing or cut off; its length is checked, its numbers are not."""
    try:
        with safe_open(file, "pt") as stored:
            return set(stored.keys()) == set(PARTS)
    except (OSError, SafetensorError):
        return False


def collect(workspace: Workspace, walk: Walk, folder: Path) -> None:
    """One pass over the calibration data; a group's statistics are written as soon as they are known."""

    def note(matrices: list[Matrix], statistics: Statistics) -> None:
        assert statistics.gram is not None
        file = file_of(folder, matrices[0])
        found = {"tokens": torch.tensor(statistics.tokens), "gram": statistics.gram, "rows": statistics.rows}
        with writing(file):
            save_file({part: tensor.contiguous() for part, tensor in found.items()}, file)

    for block in walk.run(lambda index: note, want_gram=True):
        workspace.progress("collecting statistics", block + 1, walk.blocks(), "blocks")


def entry_bytes(widths: Iterable[int], tokens: int) -> int:
    """Of an entry, for groups whose inputs are so wide: a Gram matrix and some rows each."""
    return sum(4 * width * (width + min(SAMPLE, tokens)) for width in widths)


def without(workspace: Workspace) -> list[str]:
    """What the step at work may say instead, so that it needs no statistics here."""
    step, steps = workspace.step, workspace.profile.step
    return caching.without(steps[step], f"step.{step}") if 0 <= step < len(steps) else []


def check_space(walk: Walk, folder: Path, instead: Sequence[str] = ()) -> None:
    """Raises EngineError when the statistics do not fit on the disk; `instead` are settings that need none."""
    tokens = walk.inputs.numel() if walk.subject.is_language_model else len(walk.inputs)
    needed = entry_bytes((first.shape[1] for first in firsts(walk)), tokens)
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = f"the statistics take {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free"
        raise EngineError(message, where=str(folder), hint=caching.hint(instead))


def key(workspace: Workspace, walk: Walk) -> str:
    """Everything that the statistics depend on."""
    inputs = walk.inputs.cpu().contiguous()
    weights = weights_hash(walk.subject.module, tensors=walk.subject.tensors())
    content = hashlib.blake2b(inputs.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()
    parts = (LAYOUT, weights, content, inputs.shape, str(inputs.dtype), str(walk.compute),
             walk.chunk, workspace.profile.threads, str(walk.subject.device), torch.__version__, version("transformers"),
             torch.backends.cpu.get_cpu_capability())  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def trim(folder: Path) -> None:
    """Removes the longest unused entries that nobody has used lately, and what processes that are no more had begun."""
    files.remove_abandoned(folder)
    finished = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    finished.sort(key=files.used, reverse=True)
    now = time.time()
    for entry in (entry for entry in finished[KEPT:] if now - files.used(entry) > SPARED):
        shutil.rmtree(entry, ignore_errors=True)
