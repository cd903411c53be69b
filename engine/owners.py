"""Who runs a run: a process that can be told alive from dead, also from another host."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine import crashes


@dataclass(frozen=True)
class Owner:
    """Who runs a run: enough to tell, also from another host, whether that process lives.

    `process_started` is in seconds since the boot on Linux, where the clock of the epoch may be set meanwhile, else since
    the epoch, as `heartbeat`. `released` says that it stopped working on the run in an orderly way, whether or not it
    lives on; `memory_kills` is the kernel's count at the heartbeat, `log_from` the size of worker.log when the work began.
    """

    host: str
    boot: str
    pid: int
    process_started: float
    heartbeat: float
    released: bool = False
    memory_kills: int | None = None
    log_from: int = 0

    @classmethod
    def this_process(cls) -> Owner:
        process = psutil.Process()
        kills = crashes.memory_kills()
        return cls(socket.gethostname(), _boot(), process.pid, started(process), time.time(), memory_kills=kills)

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this host since its boot."""
        return self.host == socket.gethostname() and self.boot == _boot()

    def alive(self) -> bool:
        """On this host by pid and start time; on another by the heartbeat (one minute)."""
        if self.released:
            return False
        if self.host != socket.gethostname():
            return time.time() - self.heartbeat < 60
        if not self.here:
            return False
        try:
            process = psutil.Process(self.pid)
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return not zombie and abs(started(process) - self.process_started) < 1
        except psutil.NoSuchProcess:
            return False


def started(process: psutil.Process) -> float:
    """When a process started, the same whatever the clock was set to since (see Owner)."""
    boot = psutil.boot_time() if psutil.LINUX else 0.0
    return process.create_time() - boot


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))
