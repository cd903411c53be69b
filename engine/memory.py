"""How much memory this process may still take: the machine's, its control group's, its own limit."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import torch

GROUP = Path("/sys/fs/cgroup")
SHARE = 0.6  # of the free memory: what the weights of a model that stays there may take


def free_bytes(device: torch.device) -> int:
    """Bytes free on the device, whichever limit is the lowest."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [int(psutil.virtual_memory().available), *_group(), *_own()]
    return max(0, min(limits))


def fits(weights: int, device: torch.device) -> bool:
    """Whether so many bytes of weights leave room for work on them."""
    return weights <= SHARE * free_bytes(device)


def _group() -> list[int]:
    """What the control group leaves, where one is set (cgroup v2); file pages that the system can drop do not count."""
    try:
        limit = (GROUP / "memory.max").read_text().strip()
        used = int((GROUP / "memory.current").read_text())
        counters = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    return [] if limit == "max" else [int(limit) - used + int(counters.get("inactive_file", 0))]


def _own() -> list[int]:
    """What `ulimit -d` leaves."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return []
    try:
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return [limit]
    used = next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData")), 0)
    return [limit - used]
