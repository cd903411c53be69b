"""What a run's worker takes of this machine: memory, processor and graphics card, looked at while it is followed."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil

from engine.owners import Owner

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


@dataclass(frozen=True)
class Done:
    """How far a step was at one moment (seconds since the epoch), in its own unit."""

    step: int
    time: float
    done: int


def rates(moments: Sequence[Done]) -> list[float]:
    """How much was done a second between each two moments of the last step."""
    own = [one for one in moments if one.step == moments[-1].step]
    pairs = [(a, b) for a, b in zip(own, own[1:], strict=False) if b.time > a.time and b.done >= a.done]
    return [(b.done - a.done) / (b.time - a.time) for a, b in pairs]


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


def _on_cards(pid: int) -> tuple[int, float | None] | tuple[()]:
    """Bytes of a process on all cards, and how busy the busiest of these is (0 to 1).

    In a container the driver knows processes by other numbers: where none of those is of this machine, its only card is told as
    a whole.
    """
    nvml = _driver()
    if nvml is None:
        return ()
    try:
        cards = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        at_work = {card: nvml.nvmlDeviceGetComputeRunningProcesses(card) for card in cards}
        used = {card: one.usedGpuMemory for card, found in at_work.items() for one in found if one.pid == pid}
        strange = not any(psutil.pid_exists(one.pid) for found in at_work.values() for one in found)
        if not used and len(cards) == 1 and at_work[cards[0]] and strange:
            used = {cards[0]: nvml.nvmlDeviceGetMemoryInfo(cards[0]).used}
        sizes = [int(size) for size in used.values() if size is not None]
        return (sum(sizes), _busiest(nvml, used)) if sizes else ()
    except nvml.NVMLError:
        return ()


def _busiest(nvml: Any, cards: Iterable[Any]) -> float | None:
    """The share of time at work of the busiest card, None where that is not told (parts of a card)."""
    try:
        return max(int(nvml.nvmlDeviceGetUtilizationRates(card).gpu) for card in cards) / 100
    except nvml.NVMLError:
        return None


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
