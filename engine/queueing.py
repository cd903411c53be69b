"""The queue: runs that wait for their turn, so that one after another is at work on this machine.

Every queued run has its own worker, which waits: it asks again and again who is before it. Nobody has to be told anything, so a
closed app, a killed worker or a reboot leaves nothing behind that holds up the others. Whoever is at work in the runs folder
is before every queued run, also one that was started at once.
"""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine import files, runs
from engine.errors import Cancelled, UsageError
from engine.runs import Run

POLL = 1.0
MARK = runs.QUEUED
"""the file of a run that waits, or that is to wait when a worker takes it up; in it since when (seconds since the epoch)"""


def join(run: Run) -> None:
    """Puts a run at the end of the queue: its next worker waits. Raises UsageError outside the runs folder."""
    if run.path.resolve().parent != files.runs_folder().resolve():
        hint = f"leave --run-dir out, or name a folder in {files.runs_folder()}"
        raise UsageError("only a run in the runs folder can be queued", where=str(run.path), hint=hint)
    files.write_text(run.path / MARK, repr(time.time()))


def ahead(run: Run) -> list[Run]:
    """The runs before a queued one: those at work on this machine, then those that have waited longer."""
    working, waiting = _others(run)
    return working + sorted((other for other in waiting if _place(other) < _place(run)), key=_place)


def move(run: Run, by: int) -> Run | None:
    """Lets a queued run change places with the one before it (-1) or behind it (1) and returns that one, None at the end.

    Raises UsageError for a run that does not wait.
    """
    with _alone():
        owner = run.owner()
        if _since(run) is None or owner is None or not (owner.here and owner.alive()):
            raise UsageError("the run does not wait in the queue", where=run.name)
        order = sorted([run, *_others(run)[1]], key=_place)
        place = order.index(run) + by
        if not 0 <= place < len(order):
            return None
        other, times = order[place], [_place(one)[0] for one in order]
        order[place - by], order[place] = other, run
        for earlier in range(len(times) - 1):  # where two came at once their names decided so far
            times[earlier + 1] = max(times[earlier + 1], math.nextafter(times[earlier], math.inf))
        for one, since in zip(order, times, strict=True):
            if _place(one)[0] != since:
                files.write_text(one.path / MARK, repr(since))
        return other


def _others(run: Run) -> tuple[list[Run], list[Run]]:
    """The other runs of this machine that are at work, and those that wait."""
    working: list[Run] = []
    waiting: list[Run] = []
    for other in runs.list_runs():
        owner = other.owner() if other.name != run.name else None
        if owner is not None and owner.here and owner.alive():
            (working if _since(other) is None else waiting).append(other)
    return working, waiting


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else looks at who is next meanwhile."""
    with (files.runs_folder() / "queue.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def wait(run: Run, tell: Callable[[list[str]], None], should_stop: Callable[[], bool], poll: float = POLL) -> None:
    """Returns when it is the run's turn, at once for one that is not queued; `tell` hears who is before it when that changes.

    Raises Cancelled when it is asked to stop; the run has left the queue then.
    """
    told: list[str] = []
    try:
        while before := _claim(run):
            if (names := [other.name for other in before]) != told:
                told = names
                tell(names)
            if should_stop():
                raise Cancelled("the run was cancelled")
            time.sleep(poll)
    except (Cancelled, KeyboardInterrupt):
        (run.path / MARK).unlink(missing_ok=True)
        raise


def _claim(run: Run) -> list[Run]:
    """Who is before the run; with nobody there it leaves the queue and is at work, one run at a time."""
    if _since(run) is None:
        return []
    with _alone():
        before = ahead(run)
        if not before:
            (run.path / MARK).unlink(missing_ok=True)
        return before


def _place(run: Run) -> tuple[float, str]:
    return (_since(run) or 0.0, run.name)


def _since(run: Run) -> float | None:
    """Since when a run is queued, None where it is not."""
    try:
        return float((run.path / MARK).read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError:
        return 0.0
