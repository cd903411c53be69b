"""Which keys of a step have it keep things in the user's cache, and which values of them need none."""

from __future__ import annotations

from collections.abc import Iterable

from engine.joint.options import JointOptions
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.quantization.options import QuantizeOptions
from engine.training.options import DistillOptions

WITHOUT_STATISTICS = ("uniform",)  # allocations that look at no input


def looks(options: PruneOptions) -> bool:
    """Whether the allocation looks at the inputs of the model as it is, which are collected into the cache."""
    return options.allocation not in WITHOUT_STATISTICS


def without(options: StepOptions, where: str) -> list[str]:
    """What to write at `where` in the profile for a step that keeps nothing; empty where its kind always keeps something."""
    if isinstance(options, JointOptions):
        return without(options.prunings[0], f"{where}.prune")
    if isinstance(options, DistillOptions):
        return [f"{where}.cache = false"] if options.cache else []
    found = []
    if isinstance(options, PruneOptions | QuantizeOptions) and options.statistics == "dense":
        found.append(f'{where}.statistics = "sequential"')
    if isinstance(options, PruneOptions) and looks(options):
        found.append(f'{where}.allocation = "uniform"')
    if isinstance(options, QuantizeOptions) and options.size_ratio is not None:
        found.append(f"{where}.bits in place of size_ratio")
    return found


def hint(changes: Iterable[str]) -> str:
    """Where the cache may lie, and the changes with which there is none, if any."""
    told = ", ".join(changes)
    return "COMPRESS_TUI_CACHE names a folder on another disk" + (f"; none is needed with {told}" if told else "")
