"""Where the benchmarks find things: the data, the independent evaluator beside it, the peer's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "bench" / "profiles"
SCRIPT = Path(sys.executable).with_name("compress-tui")


def has_data() -> bool:
    """Whether COMPRESS_TUI_DATA names a folder."""
    folder = os.environ.get("COMPRESS_TUI_DATA")
    return bool(folder) and Path(folder).is_dir()


def data() -> Path:
    """The folder of COMPRESS_TUI_DATA, or exit with what to set."""
    if not has_data():
        sys.exit("set COMPRESS_TUI_DATA to the folder with the benchmark data")
    return Path(os.environ["COMPRESS_TUI_DATA"])


def evaluator(name: str) -> Path:
    """A script beside the data that uses none of this project's code."""
    return data().parent / "bench" / name


def environment(name: str, *packages: str) -> Path:
    """The python of a virtual environment of its own, made when missing (a peer's libraries do not fit ours)."""
    folder = ROOT / f".venv-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in packages:  # torch first: what follows then takes this build
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        (folder / "ready").touch()
    return python
