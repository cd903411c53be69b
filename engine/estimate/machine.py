"""What this machine has: memory that a process may still take, room on disks, the speed of products and of memory.

Knows nothing of models or runs. Control groups and resource limits count, where they are lower than the machine's memory.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from engine.model import DTYPES

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
STATUS = Path("/proc/self/status")
UNLIMITED = 2**60  # version 1 writes the largest page-aligned number for "no limit"
SECONDS = 0.05  # of each timed operation
SIDE, SIDE_GPU = 512, 4096
STREAM = 2**24  # numbers in the tensor whose reading is timed


@dataclass(frozen=True)
class Rates:
    """`products` {number format: multiplications and additions a second}, `traffic` bytes of memory a second."""

    products: dict[str, float]
    traffic: float


def held_memory(device: torch.device) -> int:
    """Bytes that this process has by now, on the GPU or resident."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take on the device, within every limit."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(unused)
    rooms = [int(psutil.virtual_memory().available), *group_rooms(GROUPS, OWN_GROUPS), *limit_rooms()]
    return max(0, min(rooms))


def limit_rooms() -> Iterator[int]:
    """Bytes left within the process's own limits on address space and data."""
    info = psutil.Process().memory_info()
    for limit, used in ((resource.RLIMIT_AS, info.vms), (resource.RLIMIT_DATA, getattr(info, "data", info.vms))):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft - used


def group_rooms(root: Path, own: Path) -> Iterator[int]:
    """Bytes left within each limited control group that this process is in, both versions; file cache counts as free."""
    lines = own.read_text().splitlines() if own.is_file() else []
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0" and not controllers:
            top, files = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, files = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in _upwards(top, name):
            room = _room(folder, *files)
            if room is not None:
                yield room


def _upwards(top: Path, name: str) -> list[Path]:
    """The group's folder and those above it; a container may see only the topmost."""
    folder = top / name.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]


def _room(folder: Path, limit_file: str, used_file: str, cache_key: str) -> int | None:
    try:
        limit = int((folder / limit_file).read_text())
        used = int((folder / used_file).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not there, or "max"
        return None
    return limit - used + int(statistics.get(cache_key, 0)) if limit < UNLIMITED else None


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had resident, or on the GPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    lines = STATUS.read_text().splitlines() if STATUS.is_file() else []
    for line in lines:  # a process that was forked from a large one has that one's peak in its resource usage
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def disk(path: Path) -> tuple[int, int]:
    """(which file system, bytes free on it) of a path that need not exist yet."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    return there.stat().st_dev, int(shutil.disk_usage(there).free)


def rates(formats: Iterable[str], device: torch.device) -> Rates:
    """Measures for a fraction of a second; draws no random numbers."""
    products = {name: _product_rate(DTYPES[name], device) for name in dict.fromkeys(formats)}
    numbers = torch.ones(STREAM, device=device)
    return Rates(products, 4 * STREAM / _timed(lambda: numbers.sum(), device))


def _product_rate(dtype: torch.dtype, device: torch.device) -> float:
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
