"""Following a run from the app: new events folded in twice a second or more, death noticed, signals sent.

The boundary: this knows run folders and processes, nothing of widgets. `glance` tells a run's state without folding it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine import crashes, runs
from engine import events as ev
from engine.eventfile import CHUNK, EventReader
from engine.state import RunState
from tui.usage import KEPT, Done, Meter, Usage

INTERVAL = 0.5
TAIL = 16384
STAGES = (
    (signal.SIGINT, "asked the run to stop at the next safe point; {cancel} again insists"),
    (signal.SIGTERM, "asked again (SIGTERM); {cancel} once more kills it"),
    (signal.SIGKILL, "killed the run"),
)


@dataclass(frozen=True)
class Look:
    """What one look at a run's folder found, to be folded in later: `process` was the worker known at that time.

    `more`: there is more to read than one look takes.
    """

    process: subprocess.Popen[bytes] | None
    events: list[ev.Event]
    alive: bool
    death: ev.RunFailed | None = None
    more: bool = False
    usage: Usage | None = None


class Follower:
    """A run, its state so far, and the worker's process where this app started it.

    `look` reads the folder and may be called in a thread, one call at a time; `fold` alone changes the state.
    """

    def __init__(self, run: runs.Run, process: subprocess.Popen[bytes] | None = None) -> None:
        self.run, self.process = run, process
        self.state = RunState()
        self.requests = 0
        self._reader = EventReader(run.events_file)
        self._alive = self._read = False
        self._meter = Meter()
        self.usage: deque[Usage] = deque(maxlen=KEPT)
        self.done: deque[Done] = deque(maxlen=KEPT)

    def poll(self) -> bool:
        """Folds in what was written since the last call (1 MiB at most). True when anything changed."""
        return self.fold(self.look())

    def look(self) -> Look:
        """Reads what was written since the last call, and whether somebody is still at work."""
        process, waiting = self.process, not self.state.finished
        if process is not None:
            process.poll()  # reaps it, so that a dead worker is not a zombie
        before = self._reader.offset
        events = self._reader.read(CHUNK)
        more = self._reader.offset - before > CHUNK // 2  # whole lines alone count
        alive = (waiting or bool(events)) and self.run.alive()  # another app may have gone on with it
        if events or not waiting or alive or self._starting:
            usage = self._measured() if alive and not more else None
            return Look(process, events, alive, more=more, usage=usage)
        last = self._reader.read()  # what was written between the two looks
        return Look(process, last, alive, None if last else self._death())

    def _measured(self) -> Usage | None:
        return self._meter.read(self.run.owner(), self.state.model.device if self.state.model else "cpu")

    def fold(self, look: Look) -> bool:
        """Takes over what a look found. True when anything changed."""
        for event in look.events:
            self.state.apply(event)
        self._alive, self._read = look.alive, True
        self._note()
        if look.usage is not None:
            self.usage.append(look.usage)
        if look.death is not None and look.process is self.process:  # not one that another worker has replaced
            self.state.apply(look.death)
            return True
        return bool(look.events)

    def _note(self) -> None:
        """Keeps how far the step at work is, where it went on."""
        at, when = self.state.current, self.state.updated
        if at is None or not when or at not in self.state.steps:
            return
        now = Done(at, when, self.state.steps[at].done)
        if not self.done or (self.done[-1].step, self.done[-1].done) != (now.step, now.done):
            self.done.append(now)

    @property
    def going(self) -> bool:
        """Whether a worker is at work, or about to be, as of the last look."""
        return not self.state.finished and (self._starting or self._alive)

    def concerns(self, source: str) -> bool:
        """Whether `source` is the model that the run compresses, or one that it wrote with the same matrices."""
        if not source or not self.state.source:
            return False
        if source == self.state.source or "demo" in (source, self.state.source):  # a name, not a place
            return source == self.state.source
        wrote = _same_path(source, str(self.run.artifacts), inside=True)
        return _same_path(source, self.state.source) or (wrote and not self.state.removals)

    @property
    def status(self) -> str:
        """The state's word, with crashed and gate missed told apart."""
        if not self._read and self.process is None:
            return "reading"
        return status_of(self.state.status, self.state.failure, self.state.exit_code)

    def resumed_by(self, process: subprocess.Popen[bytes]) -> None:
        """A new worker goes on with the run; its first event sets the state to running again."""
        self.process, self.requests, self.state.status = process, 0, "empty"

    def cancel(self) -> str:
        """Sends the next stronger signal and says what was done. Raises UsageError when nobody works on the run."""
        number, said = STAGES[min(self.requests, 2)]
        if self._starting and self.process is not None:  # not yet known as the run's owner
            self.process.send_signal(number)
        else:
            runs.send_signal(self.run, number)
        self.requests += 1
        return said

    @property
    def _starting(self) -> bool:
        return self.state.status == "empty" and self.process is not None and self.process.returncode is None

    @property
    def _exit_status(self) -> int | None:
        return self.process.poll() if self.process else None  # it may have ended since the look began

    def _death(self) -> ev.RunFailed | None:
        """How a run ended that nobody works on any more, None where it was never begun."""
        if not self.run.path.is_dir():
            return _failed("the run's folder is gone", str(self.run.path))
        if self.state.begun:
            return runs.with_crash(self.run, RunState(status="running"), self._exit_status).failure
        if self.process or self.run.owner():
            tail = self.run.log_tail()
            told = crashes.cause(tail.splitlines(), self._exit_status)
            return _failed(f"{told}, before it began\n{tail}".rstrip(), "crashed")
        return None


@lru_cache(maxsize=256)
def _same_path(one: str, other: str, *, inside: bool = False) -> bool:
    """Whether two sources are one place on disk (`inside`: or the first is below the second)."""
    first, second = (Path(os.path.expanduser(source)).resolve() for source in (one, other))
    return first == second or (inside and second in first.parents)


def _failed(message: str, where: str) -> ev.RunFailed:
    return ev.RunFailed(message=message, where=where, time=time.time())


@dataclass(frozen=True)
class Glance:
    """A run in a list: its word of state, what it was doing last, and when (seconds since the epoch)."""

    run: runs.Run
    status: str
    doing: str
    updated: float


def glance(run: runs.Run) -> Glance:
    """A run's state from the end of its events alone, so that a long list opens fast."""
    try:
        size, created = run.events_file.stat().st_size, run.profile_file.stat().st_mtime
    except OSError:
        status = "starting" if run.alive() else "crashed" if run.abandoned() else "not started"
        return Glance(run, status, "", _created(run))
    reader = EventReader(run.events_file)
    reader.offset = max(0, size - TAIL)
    state = RunState.of(reader.read())
    if state.finished:
        status = status_of(state.status, state.failure, state.exit_code)
    else:
        going = "queued" if state.status == "queued" else "running"
        status = going if run.alive() else "crashed"
    return Glance(run, status, _doing(state), state.updated or created)


def status_of(status: str, failure: ev.RunFailed | None, exit_code: int | None) -> str:
    if status == "failed" and failure and failure.where == "crashed":
        return "crashed"
    if status == "done" and exit_code == 4:
        return "gate missed"
    return "starting" if status == "empty" else status


def behind(ahead: Sequence[str]) -> str:
    """Whom a queued run waits for, "" for one that does not wait."""
    if len(ahead) > 1:
        return f"after {len(ahead)} runs"
    return f"after {ahead[0].partition('-')[2] or ahead[0]}" if ahead else ""


def _doing(state: RunState) -> str:
    if state.ahead:
        return behind(state.ahead)
    known = [step for step in state.steps.values() if step.total]
    return f"{known[-1].label} {known[-1].done}/{known[-1].total}" if known else ""


def _created(run: runs.Run) -> float:
    try:
        return run.profile_file.stat().st_mtime
    except OSError:
        return 0.0
