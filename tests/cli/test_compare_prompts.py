"""`compare --prompts`: two runs' chosen prompts on the same rows, in every form, with a gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine import events as ev
from engine.prompts import kept
from engine.prompts.template import Prompt


@pytest.fixture
def two(record: Callable[..., Any], story: list[ev.Event]) -> None:
    """The second run's prompt is right on 6 rows more of 40."""
    for name, right in (("aaaa", 30), ("bbbb", 36)):
        folder = record(story, f"20231114T221320-small-{name}").artifacts / "prompts"
        kept.write(folder, kept.Kept(Prompt("c01", "{text}"), "sst2", {}, "none", [0.0]))
        lines = [
            {"row": i, "text": f"row {i}", "gold": "good", "stage": "pruned",
             "answers": {"c01": {"choice": "good" if i < right else "bad", "correct": i < right}}}
            for i in range(40)
        ]  # fmt: skip
        (folder / kept.EXAMPLES).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.usefixtures("two")
def test_the_difference_is_told(cli: Callable[..., Any]) -> None:
    result = cli("compare", "aaaa", "bbbb", "--prompts", "--json")
    (found,) = [json.loads(line) for line in result.out.splitlines()]
    assert (found["n"], found["a_only"], found["b_only"], found["verdict"]) == (40, 6, 0, "better")
    assert found["difference"] == pytest.approx(0.15)
    assert "small-aaaa" in result.err
    assert "better" in cli("compare", "aaaa", "bbbb", "--prompts").out


@pytest.mark.usefixtures("two")
def test_rows_that_differ_in_three_forms(cli: Callable[..., Any]) -> None:
    command = ("compare", "aaaa", "bbbb", "--prompts", "--different")
    assert len(cli(*command, "--json").out.splitlines()) == 6
    markdown = cli(*command, "--format", "markdown").out.splitlines()
    assert markdown[:2] == ["| gold | 1 c01 | 2 c01 | text |", "| --- | --- | --- | --- |"]
    assert len(markdown) == 8
    assert len(cli(*command, "--format", "csv").out.splitlines()) == 7
    assert len(cli("compare", "aaaa", "bbbb", "--prompts", "--rows", "--json").out.splitlines()) == 40


@pytest.mark.usefixtures("two")
def test_a_missed_gate_is_exit_code_4(cli: Callable[..., Any]) -> None:
    assert cli("compare", "aaaa", "bbbb", "--prompts", "--max-drop", "0.1").code == 0
    missed = cli("compare", "bbbb", "aaaa", "--prompts", "--max-drop", "0.1")
    assert missed.code == 4
    assert "gate missed: 2 c01 is 15.0 points below 1 c01, at most 10.0" in missed.err
    assert cli("compare", "bbbb", "aaaa", "--prompts", "--max-drop", "0.2").code == 0


@pytest.mark.usefixtures("two")
def test_options_of_the_prompts_alone_are_refused_without(cli: Callable[..., Any]) -> None:
    result = cli("compare", "aaaa", "bbbb", "--different")
    assert result.code == 2
    assert "go with --prompts\nhint: add --prompts" in result.err


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("drop", ["nan", "inf", "-5", "5", "1"])
def test_a_drop_that_cannot_be_one_is_refused(drop: str, cli: Callable[..., Any]) -> None:
    result = cli("compare", "bbbb", "aaaa", "--prompts", "--max-drop", drop)
    assert result.code == 2
    assert "error: --max-drop" in result.err
    assert "hint: " in result.err
