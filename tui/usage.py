"""What a run's worker takes of this machine: memory, processor and graphics card, looked at while it is followed."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil

from engine.runs import Owner

KEPT = 60
"""moments that are shown"""


@dataclass(frozen=True)
class Usage:
    """At one moment: resident bytes, and processor time since the moment before as a share of one core; of the graphics cards
    that the worker uses the bytes it holds there and the busiest one's share of time at work, None where nobody says.
    """

    memory: int
    cpu: float
    card_memory: int | None = None
    card: float | None = None


class Meter:
    """Measures one worker after another; knows nothing of one on another host."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    def read(self, owner: Owner | None, device: str = "cpu") -> Usage | None:
        """The worker's usage, None where it cannot be seen. Cards are asked for a run on `device` cuda alone."""
        if owner is None or owner.host != socket.gethostname():
            return None
        try:
            if self._process is None or self._process.pid != owner.pid:
                self._process = psutil.Process(owner.pid)
                self._process.cpu_percent()  # starts the clock
                return None
            with self._process.oneshot():
                memory, cpu = self._process.memory_info().rss, self._process.cpu_percent() / 100
        except psutil.Error:
            return None
        return Usage(memory, cpu, *(_on_cards(owner.pid) if device.startswith("cuda") else ()))


def _on_cards(pid: int) -> tuple[int, float] | tuple[()]:
    """Bytes of a process on all cards, and how busy the busiest of these is (0 to 1).

    In a container the driver knows processes by other numbers: a machine's only card is then told as a whole.
    """
    nvml = _driver()
    if nvml is None:
        return ()
    try:
        cards = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        held = [(card, _held(nvml, card, pid)) for card in cards]
        used = [(card, size) for card, size in held if size is not None]
        if not used and len(cards) == 1:
            used = [(cards[0], int(nvml.nvmlDeviceGetMemoryInfo(cards[0]).used))]
        if not used:
            return ()
        busy = max(int(nvml.nvmlDeviceGetUtilizationRates(card).gpu) for card, _ in used)
        return sum(size for _, size in used), busy / 100
    except nvml.NVMLError:
        return ()


def _held(nvml: Any, card: Any, pid: int) -> int | None:
    """Bytes that a process holds on a card, None where it is not there or its share is not told."""
    found = [one.usedGpuMemory for one in nvml.nvmlDeviceGetComputeRunningProcesses(card) if one.pid == pid]
    return int(found[0]) if found and found[0] is not None else None


@lru_cache(maxsize=1)
def _driver() -> Any | None:
    """nvidia-ml-py with a driver behind it, None where either is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
