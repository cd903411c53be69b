"""Quick commands stay quick: none of the heavy libraries is imported for them, and the help needs the fewest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import events as ev
from engine.runs import Run

HEAVY = ["torch", "textual", "transformers", "onnxruntime", "datasets", "rich", "scipy", "pandas", "pyarrow"]
CODE = """
import json, sys
from tui.cli import main
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def modules(*arguments: str) -> set[str]:
    """Top-level names of all modules that a command line imports."""
    command = [sys.executable, "-P", "-c", CODE, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "run --help", "list criteria", "list tasks", "list steps", "profile list",
     "profile show demo", "profile check demo", "profile schema", "runs"],
)  # fmt: skip
def test_quick_commands_import_nothing_heavy(command: str) -> None:
    assert modules(*command.split()).isdisjoint(HEAVY)


def test_inspect_imports_nothing_heavy(tiny_model: Path) -> None:
    assert modules("inspect", str(tiny_model)).isdisjoint(HEAVY)


def test_help_does_without_the_validators_too() -> None:
    assert modules("--help").isdisjoint([*HEAVY, "pydantic", "psutil", "platformdirs", "numpy"])


def test_a_replay_imports_nothing_heavy(record: Callable[..., Run], story: list[ev.Event]) -> None:
    run = record(story)
    assert modules("attach", str(run.path), "--plain").isdisjoint(HEAVY)
    assert modules("report", str(run.path)).isdisjoint(HEAVY)
