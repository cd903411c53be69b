"""Run folders: create, list, follow, signal, lock, and tell a crashed run from a living one.

Layout of a run folder: profile.toml (resolved), events.jsonl (append-only), state.json (who runs it), worker.log,
checkpoints/, artifacts/, report.md, result.json, environment.json. One process at a time holds `lock`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine import crashes, files
from engine import events as ev
from engine.errors import EngineError, Unavailable, UsageError, did_you_mean
from engine.eventfile import EventReader
from engine.owners import Owner
from engine.state import RunState

HEARTBEAT = 2.0
QUEUED = "queued"
"""the mark of a run in the queue, which others may write (see queueing)"""
LOG_READ = 65536
"""bytes of a worker's output that are looked at: the stacks of all its threads, and what stands above them"""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading never needs the lock."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def profile_file(self) -> Path:
        return self.path / "profile.toml"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "worker.log"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def reference(self) -> str:
        """What `find` finds it by: its name in the runs folder, its path elsewhere."""
        return self.name if self.path.resolve().parent == files.runs_folder().resolve() else str(self.path)

    @property
    def attached_by(self) -> str:
        """The command that watches it."""
        return shlex.join(["compress-tui", "attach", self.reference])

    @property
    def resumed_by(self) -> str:
        """The command that goes on with it, which lets its model run its own code where the run needed that."""
        import tomli

        try:
            source = str(tomli.loads(self.profile_file.read_text(encoding="utf-8"))["model"]["source"])
        except (OSError, ValueError, KeyError, TypeError):
            source = ""
        allowed = ["--allow-code"] if source.startswith("python:") else []
        return shlex.join(["compress-tui", "run", "--resume", "--run-dir", str(self.path), *allowed])

    def events(self) -> list[ev.Event]:
        """All complete events so far."""
        return EventReader(self.events_file).read()

    def state(self) -> RunState:
        """The fold of the events, with a dead worker shown as failed."""
        alive = self.alive()  # before reading, so that a run that ends in between is not taken for a crash
        state = RunState.of(EventReader(self.events_file).rest())
        return state if alive else with_crash(self, state)

    def owner(self) -> Owner | None:
        try:
            return Owner(**json.loads((self.path / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def alive(self) -> bool:
        """Whether a process is at work on it."""
        owner = self.owner()
        return owner is not None and owner.alive()

    def abandoned(self) -> bool:
        """Whether a process has begun to work on it, and is gone without having left it in an orderly way."""
        owner = self.owner()
        return owner is not None and not owner.released and not owner.alive()

    def log_tail(self, lines: int = 10, begin: int = 0) -> str:
        """The last lines of the worker's own output, for crashes; only what stands behind so many bytes."""
        try:
            with self.log_file.open("rb") as handle:
                handle.seek(max(begin, self.log_file.stat().st_size - LOG_READ))
                return "\n".join(handle.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""


def with_crash(run: Run, state: RunState, status: int | None = None) -> RunState:
    """`state`, turned to failed ("crashed") when nobody runs the run although no final event was written.

    `status` is the worker's exit status, where it is known.
    """
    owner = run.owner()
    died = (state.begun and not run.alive()) or (state.status == "empty" and run.abandoned())
    if owner is not None and died:
        words = run.log_tail(LOG_READ, owner.log_from).splitlines()
        told = crashes.cause(words, status, owner.memory_kills if owner.here else None)
        tail = "\n".join(words[-10:])
        less = crashes.hint(told)
        hint = (f"{less}\nhint: " if less else "") + run.resumed_by
        message = told + (f"\n{tail}" if tail else "")
        state.apply(ev.RunFailed(message=message, where="crashed", hint=hint, time=time.time()))
    return state


def create(name: str, profile_text: str, folder: Path | None = None) -> Run:
    """A new run folder, under the runs folder or at `folder` (which must be new or empty)."""
    path = folder or new_folder(name)
    try:
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(
                "the run folder is not empty",
                where=str(path),
                hint="--resume goes on with it; or name another",
            )
        for part in ("checkpoints", "artifacts"):
            (path / part).mkdir(parents=True, exist_ok=True)
        files.write_text(path / "profile.toml", profile_text)
    except OSError as error:
        raise EngineError(f"cannot write the run folder: {error.strerror}", where=str(path)) from error
    return Run(path.resolve())


def new_folder(name: str) -> Path:
    """A path under the runs folder that does not exist: two runs that begin in one second rarely draw the same one."""
    while True:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        path = files.runs_folder() / f"{stamp}-{name}-{secrets.token_hex(2)}"
        if not path.exists():
            return path


def list_runs() -> list[Run]:
    """All runs of the runs folder, newest first."""
    found = files.runs_folder().glob("*/profile.toml")
    return [Run(file.parent) for file in sorted(found, key=lambda f: f.parent.name, reverse=True)]


def find(reference: str) -> Run:
    """A run by folder, by full name, by the id at its end, or "last". Raises Unavailable."""
    path = Path(reference).expanduser()
    if (path / "profile.toml").is_file():
        return Run(path.resolve())
    runs = list_runs()
    if reference == "last" and runs:
        return runs[0]
    matches = [run for run in runs if run.name == reference or run.name.endswith(f"-{reference}")]
    if len(matches) == 1:
        return matches[0]
    hint = (
        did_you_mean(reference, [run.name for run in runs[:10]])
        if runs
        else "there are no runs yet: compress-tui run --profile demo"
    )
    raise Unavailable("no such run", where=reference, hint=hint)


def remove(run: Run) -> None:
    """Deletes a run's folder. Raises UsageError while somebody works on it."""
    if run.alive():
        raise UsageError(
            "the run is still going", where=run.name, hint=shlex.join(["compress-tui", "cancel", run.reference])
        )
    shutil.rmtree(run.path)


def start_detached(run: Run, *, allow_code: bool = False) -> subprocess.Popen[bytes]:
    """Starts the worker in a session of its own, so that a dropped connection does not end it."""
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "engine.worker", str(run.path)]
    with run.log_file.open("ab") as log:
        return subprocess.Popen(
            command + (["--allow-code"] if allow_code else []),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=run.path,
        )  # fmt: skip


def send_signal(run: Run, signal: int = signals.SIGINT) -> None:
    """Signals the process at work on the run. Raises UsageError when there is none or it is on another host."""
    owner = run.owner()
    if owner is None or not owner.alive():
        raise UsageError("nobody is working on this run", where=run.name)
    if owner.host != socket.gethostname():
        raise UsageError(f"the run is on host {owner.host}", where=run.name)
    try:
        own_group = os.getpgid(owner.pid) == owner.pid
        os.killpg(owner.pid, signal) if own_group else os.kill(owner.pid, signal)
    except ProcessLookupError as error:
        raise UsageError("nobody is working on this run", where=run.name) from error
    except PermissionError as error:
        raise UsageError("the run belongs to another user", where=run.name) from error


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Holds the run for this process, without what a killed one was writing, and keeps state.json's heartbeat fresh.

    Raises UsageError when it is taken.
    """
    with (run.path / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            hint = f"{run.attached_by} shows it"
            raise UsageError("another process is working on this run", where=str(run.path), hint=hint) from error
        files.remove_leftovers(run.path, spared=QUEUED)
        stop, log_from = threading.Event(), run.log_file.stat().st_size if run.log_file.is_file() else 0
        _beat(run, log_from)
        thread = threading.Thread(target=_keep_beating, args=(run, stop, log_from), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with suppress(OSError):
                _beat(run, log_from, released=True)


def follow(run: Run, poll: float = 0.25, patience: float = 20.0) -> Iterator[ev.Event]:
    """Events as they are written, until a final one or until the worker is found dead (its crash is the last event).

    A run that says nothing and has nobody at work on it for `patience` seconds was never started.
    """
    reader, state, began = EventReader(run.events_file), RunState(), time.monotonic()
    while True:
        alive = run.alive()  # before reading, so that nothing written before death is missed
        for event in reader.read():
            state.apply(event)
            yield event
        if state.finished:
            return
        if not alive and state.begun:
            failure = with_crash(run, state).failure
            if failure:
                yield failure
            return
        if not alive and state.status == "empty" and time.monotonic() - began > patience:
            yield _never_started(run)
            return
        time.sleep(poll)


def _never_started(run: Run) -> ev.RunFailed:
    tail = run.log_tail()
    message = "nobody has started this run" + (f"\n{tail}" if tail else "")
    return ev.RunFailed(message=message, hint=run.resumed_by, time=time.time())


def _beat(run: Run, log_from: int, *, released: bool = False) -> None:
    owner = replace(Owner.this_process(), released=released, log_from=log_from)
    files.write_text(run.path / "state.json", json.dumps(asdict(owner)))


def _keep_beating(run: Run, stop: threading.Event, log_from: int) -> None:
    while not stop.wait(HEARTBEAT):
        try:
            _beat(run, log_from)
        except FileNotFoundError:  # the folder was deleted: the run itself will say so
            return
        except OSError:  # a full disk, or a network home that does not answer: the next beat may
            continue


def read_json(path: Path) -> Any:
    """The JSON of a file of a run, None when it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
