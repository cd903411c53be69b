"""The project's own files: CI runs the README's commands, the Makefile names real things, quick start comes first."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ci_runs_the_readmes_test_command() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert "\nmake test\n" in ci
    assert "make test" in (ROOT / "README.md").read_text()


def test_make_targets_exist() -> None:
    for target in ("demo", "test", "check", "bench", "screenshots"):
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_constraints_pin_what_the_package_gives_a_range() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins["torch"] == "2.13.0"
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"textual=={pins["textual"]}"' in text
    assert f'"textual-plot=={pins["textual-plot"]}"' in text
