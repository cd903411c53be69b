"""The command line in the app and the shell: completion by keys, errors in place, commands done, answers side by side."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, notices, settle, words
from textual.widgets import Input

from engine import events as ev
from engine import runs
from engine.errors import EngineError, UsageError
from tui import completion, output, recent, resident
from tui.cli import main
from tui.commands import shell as shell_command
from tui.screens.answers import AnswersScreen
from tui.screens.command import CommandLine
from tui.screens.dialogs import Reader

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
NAMED = {" ": "space", "=": "equals_sign", ".": "full_stop", '"': "quotation_mark", ",": "comma"}


def typed(text: str) -> list[str]:
    return [NAMED.get(letter, letter) for letter in text]


@SIZES
async def test_a_line_is_completed_and_starts_a_run(
    size: tuple[int, int], started: list[tuple[runs.Run, bool]]
) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed("pru"))
        await settle(pilot)
        assert "Set weights to zero" in words(app)
        await pilot.press("tab", *typed("0.6 crit"), "tab", *typed("mag"), "tab")
        assert app.screen.query_one(Input).value == "prune 0.6 criterion=magnitude "
        await pilot.press("enter")
        await settle(pilot)
        ((run, _),) = started
        assert 'criterion = "magnitude"' in run.profile_file.read_text()
        assert app.current_mode == "run"
    assert recent.read(recent.COMMANDS) == ["prune 0.6 criterion=magnitude"]


@SIZES
async def test_a_wrong_line_is_explained_where_it_was_typed(size: tuple[int, int], started: list[object]) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed("prune 1.5"), "enter")
        await settle(pilot)
        assert isinstance(app.screen, CommandLine)
        assert "sparsity" in words(app)
        assert "less than 1" in words(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, CommandLine)
    assert started == []
    assert recent.read(recent.COMMANDS) == []


async def test_tab_goes_through_the_choices_and_back() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed("prune scope="))
        field, seen = app.screen.query_one(Input), []
        for key in ("tab", "tab", "tab", "tab", "shift+tab"):
            await pilot.press(key)
            seen.append(field.value.strip())
        choices = [f"prune scope={value}" for value in ("auto", "layer", "row", "auto", "row")]
        assert seen == choices


async def test_what_may_follow_is_looked_up_once_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, complete = [], completion.complete
    monkeypatch.setattr(completion, "complete", lambda line: asked.append(line) or complete(line))
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed("pru"), "tab")
        await settle(pilot)
    assert asked == ["", "p", "pr", "pru", "prune "]


async def test_earlier_lines_come_back_with_the_arrows() -> None:
    for line in ("eval sst2", "prune 0.5"):
        recent.add(recent.COMMANDS, line)
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon", "up", "up")
        assert app.screen.query_one(Input).value == "eval sst2"
        await pilot.press("down")
        assert app.screen.query_one(Input).value == "prune 0.5"


@pytest.mark.parametrize(
    ("line", "shown"), [("help prune", "criterion="), ("report", "17.42"), ("help", "sensitivity")]
)
async def test_words_that_tell_something_open_a_text(line: str, shown: str, make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed(line), "enter")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        assert shown in app.screen.text.plain


def wrote(run: runs.Run, *formats: str) -> runs.Run:
    with run.events_file.open("a") as file:
        for seq, name in enumerate(formats, 9999):
            folder = run.artifacts / name
            folder.mkdir()
            (folder / "config.json").write_text("{}")
            event = ev.ArtifactWritten(step=1, path=f"artifacts/{name}", format=name, bytes=1, seq=seq)
            file.write(ev.to_json(event) + "\n")
    return run


class Answers(resident.Resident):
    """A worker that answers at once; the second model fails where it is told to."""

    def __init__(self, problem: EngineError | None = None) -> None:
        super().__init__()
        self.problem = problem

    def ask(self, text: str, tokens: int, models: Any, place: Any) -> Iterator[dict[str, Any]]:
        for source in models:
            yield {"model": source, "loading": True}
            for word in ("It is ", f"{text}.", f" {Path(source).name}"):
                yield {"model": source, "piece": word}
            yield {"model": source, "done": True, "tokens": 3, "seconds": 1.5}
        if self.problem:
            raise self.problem


@SIZES
async def test_both_answers_stand_side_by_side(
    size: tuple[int, int], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_on(wrote(make_run("finished"), "safetensors"))
    app.resident = Answers()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed('ask "red"'), "enter")
        await settle(pilot)
        assert isinstance(app.screen, AnswersScreen)
        lines = [line for line in words(app).splitlines() if "It is red. demo" in line]
        assert len(lines) == 1
        assert "It is red. safetensors" in lines[0]
        assert words(app).count("✓ 3 tokens · 1.5 s · 2.0/s") == 2
        await pilot.press("y")
        assert "dense: It is red. demo" in app.clipboard
        await pilot.press("escape")
        app.resident = Answers(EngineError("the worker was killed", where="answering", hint="look"))
        await pilot.press("colon", "up", "enter")
        await settle(pilot)
        assert "hint: look" in words(app)


async def test_what_is_read_has_no_escapes_of_the_terminal_that_it_is_read_on(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make_run("finished"), make_run("failed")
    app = app_on(one)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        monkeypatch.setattr(output, "paint", lambda text, code, stream=None: f"\x1b[{code}m{text}\x1b[0m")
        await pilot.press("colon", *typed(f"compare {one.name} {other.name}"), "enter")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        header = app.screen.text.plain.splitlines()[0]
        assert header.split()[:2] == ["stage", "figure"]


async def test_a_run_without_a_model_says_how_to_get_one(make_run: MakeRun) -> None:
    app = app_on(make_run("failed"))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        await pilot.press("colon", *typed("ask red"), "enter")
        await settle(pilot)
        assert "the run has written no model to compare with" in notices(app)[-1]


def test_only_what_loads_as_a_model_is_asked(make_run: MakeRun) -> None:
    run = wrote(make_run("finished"), "compressed_tensors", "sparse", "onnx_int8")
    assert resident.pair(run, run.state()) == ("demo", str(run.artifacts / "compressed_tensors"))
    run = wrote(make_run("finished", name="other"), "sparse")
    with pytest.raises(UsageError, match="no model to compare with"):
        resident.pair(run, run.state())


def test_models_are_asked_where_the_run_had_them(make_run: MakeRun) -> None:
    run = make_run("finished")
    assert resident.place(run) == {"device": "auto", "dtype": "auto"}
    run.profile_file.write_text('[model]\nsource = "demo"\ndevice = "cpu"\ndtype = "bfloat16"\n')
    assert resident.place(run) == {"device": "cpu", "dtype": "bfloat16"}


# The shell


def shell(monkeypatch: pytest.MonkeyPatch, *lines: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return main(["shell"])


def test_the_shell_takes_the_same_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make_run: MakeRun
) -> None:
    run = make_run("finished")

    def start(created: runs.Run, *, allow_code: bool = False) -> None:
        created.events_file.write_text(run.events_file.read_text())

    monkeypatch.setattr(runs, "start_detached", start)
    code = shell(monkeypatch, "# a comment", "", "help prune", "prune 0.6", "prune 1.5", "quit", "never reached")
    said = capsys.readouterr()
    assert code == 0
    assert "criterion=" in said.out
    assert "17.42" in said.out  # the result table
    assert "error: command: sparsity: Input should be less than 1" in said.err
    assert "never" not in said.err
    assert recent.read(recent.COMMANDS) == ["help prune", "prune 0.6", "quit"]


def test_the_shell_ends_with_the_code_of_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell(monkeypatch, "help", "prnue") == 2
    assert shell(monkeypatch, "prnue", "help") == 0


def test_code_of_a_model_runs_only_when_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell(monkeypatch, "model python:mine:make", "prune 0.5") == 2
    assert "--allow-code" in capsys.readouterr().err


def test_the_prompt_is_no_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("help ask\n"))
    monkeypatch.setattr(shell_command, "_use_readline", lambda: None)
    assert main(["shell"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("ask  ")
    assert shell_command.PROMPT in said.err


def test_a_model_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "demo"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("model", "./model", "demo", "owner/name"):
        recent.add(recent.MODELS, source)
    assert recent.read(recent.MODELS) == [str(tmp_path / "model"), "demo", "owner/name"]


def test_a_list_that_was_damaged_starts_anew() -> None:
    recent.add(recent.MODELS, "a")
    file = next(Path(sys.modules["engine.files"].state_folder()).glob("recent-models.json"))
    file.write_text("[1, {")
    assert recent.read(recent.MODELS) == []
    for number in range(30):
        recent.add(recent.MODELS, f"m{number}")
    assert recent.read(recent.MODELS)[-1] == "m29"
    assert len(json.loads(file.read_text())) == recent.MOST[recent.MODELS]
