"""Runs one run folder to its end: in-process for the command line, or as `python -P -m engine.worker RUN_DIR`.

Torch is imported only after the first event is written. SIGINT, SIGTERM and a terminal that hangs up (SIGHUP) ask the
run to stop at the next safe point.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import events as ev
from engine import profile as profiles
from engine import queueing, runs
from engine.allocator import keep_freed_memory
from engine.errors import FAILED, INTERRUPTED, Cancelled, EngineError, ProfileError
from engine.eventfile import EventWriter
from engine.state import RunState


@dataclass
class Clock:
    """Seconds at work on a run: those of `earlier` processes, and this one's since it `began`."""

    earlier: float
    began: float | None = None

    def worked(self) -> float:
        here = 0.0 if self.began is None else time.monotonic() - self.began
        return round(self.earlier + here, 3)


def execute(run: runs.Run, *, allow_code: bool = False, also: Callable[[ev.Event], None] | None = None) -> int:
    """Runs or resumes `run`; every outcome ends in a final event. Returns the exit code.

    Raises UsageError when another process works on it. `also` sees each event as it is written.
    """
    with runs.lock(run), _stop_on_signals() as should_stop:
        clock = Clock(RunState.of(run.events()).worked)
        emit = EventWriter(run.events_file, also)
        try:
            return _pipeline(run, emit, should_stop, allow_code, clock)
        except (Cancelled, KeyboardInterrupt):
            emit(ev.RunCancelled(seconds=clock.worked()))
            return INTERRUPTED
        except Exception as error:
            failure = replace(_failure(error, run), seconds=clock.worked())
            emit(failure)
            return failure.exit_code
        finally:
            emit.close()


def _pipeline(run: runs.Run, emit: EventWriter, should_stop: Callable[[], bool], allow_code: bool, clock: Clock) -> int:
    profile = profiles.parse(run.profile_file.read_text(encoding="utf-8"), str(run.profile_file))
    told: dict[str, Any] = {
        "run": run.name, "profile": profile.name, "description": profile.description, "source": profile.model.source,
        "steps": [step.use for step in profile.step],
    }  # fmt: skip
    queueing.wait(run, lambda ahead: emit(ev.RunQueued(**told, ahead=ahead)), should_stop)
    clock.began = time.monotonic()
    emit(ev.RunStarted(**told, resumed=any(run.checkpoints.iterdir()), allow_code=allow_code))
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own progress bars; ours are events
    keep_freed_memory()
    from engine import pipeline  # imports torch, seconds after the first event

    return pipeline.run(run, profile, emit, should_stop, allow_code=allow_code, worked=clock.worked)


def _failure(error: Exception, run: runs.Run) -> ev.RunFailed:
    """The final event of an error; what we did not raise ourselves leaves its traceback in worker.log."""
    if isinstance(error, EngineError):
        message = "\n".join(error.lines()) if isinstance(error, ProfileError) else error.message
        return ev.RunFailed(message=message, where=error.where, hint=error.hint, exit_code=error.exit_code)
    with suppress(OSError), run.log_file.open("a", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    if isinstance(error, OSError) and error.strerror:
        where = str(error.filename) if error.filename else None
        return ev.RunFailed(message=error.strerror, where=where, exit_code=FAILED)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return ev.RunFailed(
            message=f"out of memory: {error}", hint="lower calibration.samples, or set calibration.chunk"
        )
    hint = f"this is a bug: the traceback is in {run.log_file}"
    return ev.RunFailed(message=f"{type(error).__name__}: {error}", hint=hint)


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """A predicate that turns true on the first SIGINT, SIGTERM or SIGHUP; a second one interrupts at once.

    A terminal that is closed may hang up more than once, and nohup lets nobody hear it.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1 and number != signal.SIGHUP:
            raise KeyboardInterrupt

    heard = [signal.SIGINT, signal.SIGTERM]
    heard += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    try:
        old = {number: signal.signal(number, note) for number in heard}
    except ValueError:  # not the main thread: nobody can signal us
        old = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--allow-code", action="store_true")
    arguments = parser.parse_args()
    try:
        return execute(runs.find(str(arguments.run)), allow_code=arguments.allow_code)
    except EngineError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
