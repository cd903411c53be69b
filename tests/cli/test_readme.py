"""Every command of the README is one that works: the quick ones run, the others at least parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from engine import events as ev
from engine import profile
from tui.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line[2:] for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
OURS = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("compress-tui")]
QUICK = ("runs", "report", "list", "profile")


def name(arguments: list[str]) -> str:
    return " ".join(arguments) or "app"


def test_the_two_commands_come_first() -> None:
    assert README.startswith("# compress-tui\n\n    make demo\n    make test\n")


def test_only_known_programs_are_named() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"compress-tui", "pip", "make"}


@pytest.mark.parametrize("arguments", OURS, ids=name)
def test_it_parses(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.make_context("compress-tui", list(arguments))
    rest = [*context._protected_args, *context.args]
    while rest:
        word, command, rest = command.resolve_command(context, rest)
        context = command.make_context(word, rest, parent=context)
        rest = [*context._protected_args, *context.args] if hasattr(command, "commands") else []


@pytest.mark.parametrize("arguments", [a for a in OURS if a and a[0] in QUICK], ids=name)
def test_it_runs(cli: Callable[..., Any], record: Any, story: list[ev.Event], arguments: list[str]) -> None:
    record(story)
    result = cli(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out


def test_the_profile_in_it_is_one() -> None:
    whole, task = [text for kind, text in BLOCKS if kind == "toml"]
    read = profile.parse(whole + task, "README.md")
    assert read.gate.perplexity_ratio == 2.5
    assert list(read.task) == ["mine"]


def test_the_exit_codes_in_it_are_the_engines() -> None:
    from engine import errors

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == {
        errors.DONE, errors.FAILED, errors.USAGE, errors.UNAVAILABLE, errors.GATE_MISSED, errors.INTERRUPTED,
    }  # fmt: skip


def test_every_command_of_the_program_is_in_it() -> None:
    named = {arguments[0] for arguments in OURS if arguments}
    assert named == set(typer.main.get_command(app).commands)
