"""The project's own files: CI runs the README's commands, the Makefile names real things, quick start comes first."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_ci_runs_the_readmes_test_command() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert "\nmake test\n" in ci
    assert "make test" in (ROOT / "README.md").read_text()


def test_make_targets_exist() -> None:
    for target in ("demo", "test", "check", "bench", "screenshots"):
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("there", [False, True])
def test_benchmarks_without_their_data_are_skipped_and_named(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.setenv("COMPRESS_TUI_DATA", str(tmp_path if there else tmp_path / "nowhere"))
    began: list[str] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: began.append(Path(command[-1]).name))
    importlib.import_module("run").main()
    for name in ("run", "place"):
        del sys.modules[name]
    assert began == (["startup.py", "prune.py", "scale.py", "sst2.toml"] if there else ["startup.py", "scale.py"])
    skipped = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert skipped == ([] if there else ["== prune.py", "== sst2.toml"])


def test_constraints_pin_what_the_package_gives_a_range() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins["torch"] == "2.13.0"
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"textual=={pins["textual"]}"' in text
    assert f'"textual-plot=={pins["textual-plot"]}"' in text
