"""How much memory this process has and may still take: the machine's, its control groups', its own limits."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
UNLIMITED = 2**60  # version 1 writes the largest page-aligned number for "no limit"
SHARE = 0.6  # of the free memory: what the weights of a model that stays there may take


def fits(weights: int, device: torch.device) -> bool:
    """Whether so many bytes of weights leave room for work on them."""
    return weights <= SHARE * free_memory(device)


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


def give_back(device: torch.device) -> None:
    """Frees what nobody holds any more, on a graphics card for other processes too."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on an accelerator (torch's own error) or on the CPU (a plain RuntimeError of its allocator)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "not enough memory" in str(error) or "can't allocate memory" in str(error)
