"""`prompt apply`: the chosen prompt, as it is, filled in, as messages; what cannot be is refused with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine import events as ev
from engine.data.rows import Row
from engine.prompts import kept
from engine.prompts.template import Prompt

SHOWN = Row("dull", {"text": "dull"}, (" bad", " good"), 0)
PROMPT = Prompt("c01", "{text}\nSentiment:", "Good or bad?", (SHOWN,))


@pytest.fixture
def chosen(record: Callable[..., Any], story: list[ev.Event]) -> None:
    run = record(story)
    kept.write(run.artifacts / "prompts", kept.Kept(PROMPT, "sst2", {"0": " bad", "1": " good"}, "none", [0.0, 0.0]))


@pytest.mark.usefixtures("chosen")
def test_it_prints_the_prompt(cli: Callable[..., Any]) -> None:
    assert cli("prompt", "apply", "last").out == PROMPT.text() + "\n"
    filled = cli("prompt", "apply", "last", "text=a fine {film} = yes")
    assert filled.out == "Good or bad?\n\ndull\nSentiment: bad\n\na fine {film} = yes\nSentiment:\n"


@pytest.mark.usefixtures("chosen")
def test_messages_go_to_a_chat_api(cli: Callable[..., Any]) -> None:
    found = json.loads(cli("prompt", "apply", "last", "text=fine", "--messages").out)
    assert found[0] == {"role": "system", "content": "Good or bad?"}
    assert found[-1] == {"role": "user", "content": "fine\nSentiment:"}


@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["txt=fine"], "unknown field {text}"),
        (["text=fine", "stars=5"], "no field 'stars' to fill in"),
        (["fine"], "'fine' is no FIELD=VALUE"),
        (["--task", "sst3"], "the run chose no prompt for sst3"),
    ],
)
def test_what_cannot_be_is_refused(cli: Callable[..., Any], arguments: list[str], words: str) -> None:
    result = cli("prompt", "apply", "last", *arguments)
    assert result.code == 2
    assert words in result.err
    assert "hint:" in result.err
    assert result.out == ""


def test_a_run_without_prompts_is_refused(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    record([e for e in story if getattr(e, "step", 0) != 1])
    result = cli("prompt", "apply", "last")
    assert result.code == 2
    assert "the run chose no prompt" in result.err


def test_virtual_tokens_ahead_of_the_text_are_told(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    folder = record(story).artifacts / "prompts"
    chosen = kept.Kept(PROMPT, "sst2", {"0": " bad", "1": " good"}, "none", [0.0, 0.0])
    kept.write(folder, chosen)
    assert cli("prompt", "apply", "last").err == ""
    kept.write(folder, replace(chosen, virtual=20))
    result = cli("prompt", "apply", "last")
    assert result.out == PROMPT.text() + "\n"
    assert result.err == f"20 virtual tokens belong ahead of this text: peft loads them from {folder}\n"


def test_a_calibration_is_told_and_given_to_scripts(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    folder, labels = record(story).artifacts / "prompts", {"0": " bad", "1": " good"}
    kept.write(folder, kept.Kept(PROMPT, "sst2", labels, "batch", [-0.25, -1.5]))
    result = cli("prompt", "apply", "last", "text=fine")
    assert result.out.endswith("fine\nSentiment:\n")
    assert "must be calibrated: subtract" in result.err
    assert "(0 -0.2500, 1 -1.5000)" in result.err
    found = json.loads(cli("prompt", "apply", "last", "text=fine", "--json").out)
    assert found["offsets"] == {"0": -0.25, "1": -1.5}
    assert (found["labels"], found["calibration"], found["task"]) == (labels, "batch", "sst2")
    assert found["text"] + "\n" == result.out
    assert found["messages"][-1] == {"role": "user", "content": "fine\nSentiment:"}


def test_a_chat_is_messages_without_being_asked_for(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    chat = replace(PROMPT, chat="user")
    kept.write(record(story).artifacts / "prompts", kept.Kept(chat, "sst2", {"0": " bad"}, "none", [0.0]))
    found = json.loads(cli("prompt", "apply", "last", "text=fine").out)
    assert found == [
        {"role": "user", "content": "Good or bad?\n\ndull\nSentiment:"}, {"role": "assistant", "content": "bad"},
        {"role": "user", "content": "fine\nSentiment:"},
    ]  # fmt: skip
