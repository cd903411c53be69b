"""Writing that survives a crash: temporary name, fsync, rename; and what lies where on this machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

APP = "compress-tui"
UNFINISHED = (".*.part", ".*.old")
"""the names of what is being written, and of what it replaces"""
ABANDONED = 24 * 3600.0
"""seconds after which what a killed process was writing may go"""


def state_folder() -> Path:
    """Where what was done is kept: $COMPRESS_TUI_STATE, else the user's state folder."""
    override = os.environ.get("COMPRESS_TUI_STATE")
    return Path(override) if override else platformdirs.user_state_path(APP)


def runs_folder() -> Path:
    """Where runs are kept: $COMPRESS_TUI_RUNS, else a folder in the state folder."""
    override = os.environ.get("COMPRESS_TUI_RUNS")
    return Path(override) if override else state_folder() / "runs"


def archive_file() -> Path:
    """Where measured artifacts of all runs are noted."""
    return state_folder() / "artifacts.sqlite"


def cache_folder() -> Path:
    """Where what can be made again is kept: $COMPRESS_TUI_CACHE, else the user's cache folder."""
    override = os.environ.get("COMPRESS_TUI_CACHE")
    return Path(override) if override else platformdirs.user_cache_path(APP)


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text`, whole or not at all."""
    write_with(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file under a temporary name beside `path`, syncs it and moves it into place."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], object], *, spare: Callable[[], bool] = lambda: False) -> None:
    """The same for a folder; an older `path` is replaced, but not one to be spared: another process may have made it by now."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        for file in (*part.rglob("*"), part):
            _sync(file)
        if spare():
            return
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what nobody needs afterwards, named as what is half-written is."""
    with TemporaryDirectory(dir=folder, prefix=".scratch.", suffix=".part") as made:
        yield Path(made)


def remove_leftovers(folder: Path, spared: str) -> None:
    """Deletes all in `folder` that a process which is gone was writing; not what belongs to the file named `spared`."""
    for pattern in UNFINISHED:
        for path in list(folder.rglob(pattern)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(f".{spared}."):
                path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Deletes directly in `folder` what nobody has written at for a day: what a killed process had begun, where others may be
    at work.
    """
    for path in (path for pattern in UNFINISHED for path in folder.glob(pattern)):
        if time.time() - used(path) > ABANDONED:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def used(path: Path) -> float:
    """When it was last written at; long ago when another process has just removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def folder_bytes(path: Path) -> int:
    """Bytes of all files under `path`, or of the file itself."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
