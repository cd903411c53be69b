"""What this machine has: room on disks, the speed of products and of memory, and what a process took at most.

Knows nothing of models or runs.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from engine.resident import peak_resident
from engine.subject import DTYPES

SECONDS = 0.05  # of each timed operation
SIDE, SIDE_GPU = 512, 4096
STREAM = 2**24  # numbers in the tensor whose reading is timed


@dataclass(frozen=True)
class Rates:
    """`products` {number format: multiplications and additions a second}, `traffic` bytes of memory a second."""

    products: dict[str, float]
    traffic: float


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had resident, or on the GPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_resident()


def disk(path: Path) -> tuple[int, int]:
    """(which file system, bytes free on it) of a path that need not exist yet."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    return there.stat().st_dev, int(shutil.disk_usage(there).free)


def rates(formats: Iterable[str], device: torch.device) -> Rates:
    """Measured once in a process and for its number of threads, for a fraction of a second; draws no random numbers."""
    threads = torch.get_num_threads()
    products = {name: _product_rate(DTYPES[name], device, threads) for name in dict.fromkeys(formats)}
    return Rates(products, _traffic(device, threads))


@cache
def _traffic(device: torch.device, threads: int) -> float:
    numbers = torch.ones(STREAM, device=device)
    return 4 * STREAM / _timed(lambda: numbers.sum(), device)


@cache
def _product_rate(dtype: torch.dtype, device: torch.device, threads: int) -> float:
    side = SIDE_GPU if device.type == "cuda" else SIDE
    a = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _timed(lambda: a @ a, device)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: the median after one that warms up, so that a moment of another process does not count."""
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < 4 or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
