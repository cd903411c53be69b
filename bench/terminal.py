"""A program on a pseudo-terminal of 120x40: what it writes is kept with the time of its arrival."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

import psutil

STYLED = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Starts `command`; `wait` reads until a text was written, `rest` for so many seconds."""

    def __init__(self, command: list[str | Path], **environment: str) -> None:
        self.began = time.perf_counter()
        self.bytes = 0
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment})
            try:
                os.execv(str(command[0]), [str(part) for part in command])
            finally:  # no traceback: its lines could be taken for what is waited for
                os.write(2, f"{command[0]} does not start\n".encode())
                os._exit(127)
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def wait(self, mark: str, patience: float = 60.0) -> float:
        """Seconds since the start, or since the keys were pressed, until `mark` was written."""
        deadline, seen, text = time.perf_counter() + patience, b"", mark.encode()
        while text not in STYLED.sub(b"", seen):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{mark!r} was never written; the last of it: {STYLED.sub(b'', seen)[-400:]!r}")
            try:
                seen = seen[-65536:] + self._read(1.0)
            except EOFError as error:
                raise EOFError(f"{error}; the last of it: {STYLED.sub(b'', seen)[-400:]!r}") from error
        return time.perf_counter() - self.began

    def rest(self, seconds: float) -> None:
        """Reads whatever comes for so long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._read(left)

    def press(self, keys: str) -> None:
        """Types, and begins to count the time."""
        self.began = time.perf_counter()
        os.write(self._handle, keys.encode())

    def cpu(self) -> float:
        """Processor seconds so far."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._handle)

    def _read(self, patience: float) -> bytes:
        ready, _, _ = select.select([self._handle], [], [], patience)
        try:
            data = os.read(self._handle, 65536) if ready else b""
        except OSError as error:  # the other side is closed
            raise EOFError("the program has ended") from error
        self.bytes += len(data)
        return data
