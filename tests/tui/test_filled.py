"""What stands in one line or one text: prompts filled in with a row's fields, values of a profile in a line."""

from __future__ import annotations

from typing import Any

import pytest
import tomli

from engine.state import CandidateState
from tui import fields
from tui.widgets import examples


@pytest.mark.parametrize(
    ("given", "said"),
    [({"fields": {"goal": "open it", "text": "no"}}, "open it? {other} no"), ({}, "{goal}? {other} a row")],
)
def test_a_prompt_is_filled_with_the_fields_of_the_row(given: dict[str, Any], said: str) -> None:
    example = {
        "text": "a row",
        "gold": " yes",
        "answers": {"p": {"choice": "yes", "scores": {"yes": -0.1}, "correct": True}},
    }
    known = {"p": CandidateState("p", "{goal}? {other} {text}", "given", 6)}
    assert examples.full(example | given, known).plain.endswith(f"Prompt p\n{said}")


@pytest.mark.parametrize("value", ["Answer: ", " x", "a\nb", "Review: {text}\nSentiment:", "plain words", "0.5", ""])
def test_a_text_in_a_line_keeps_its_blanks_and_breaks(value: str) -> None:
    line = fields.typed(value)
    assert line == line.strip()
    assert "\n" not in line
    try:
        read = tomli.loads(f"value = {line}")["value"]
    except tomli.TOMLDecodeError:
        read = line
    assert read == value
