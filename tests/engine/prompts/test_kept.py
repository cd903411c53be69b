"""A kept prompt reads back as it was, in every form; what is missing is refused with its place."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.prompting import toy

from engine.errors import Unavailable, UsageError
from engine.prompts import kept
from engine.prompts.template import Prompt

TASK = replace(toy(), labels={"0": [" no", " never"], "1": " yes"})
PROMPT = Prompt(
    "a07",
    'Say "{text}"\nAnswer:',
    "Line one.\nLine {{two}}.",
    tuple(replace(row, more=((" never",), ())) for row in TASK.train[:2]),
    "by hand",
)


def made(folder: Path, virtual: int = 0) -> kept.Kept:
    out = kept.Kept(PROMPT, "toy", TASK.labels, "batch", [-0.5, -0.9], virtual)
    kept.write(folder, out)
    return out


@pytest.mark.parametrize("virtual", [0, 20])
def test_it_reads_back(virtual: int, tmp_path: Path) -> None:
    written = made(tmp_path / "prompts", virtual)
    assert kept.read(tmp_path / "prompts") == written


def test_the_forms_for_people_say_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    assert (tmp_path / "winner.txt").read_text() == PROMPT.text()
    table = tomllib.loads((tmp_path / "prompt.toml").read_text())
    assert (table["instruction"], table["template"], table["labels"]) == (
        PROMPT.instruction,
        PROMPT.template,
        TASK.labels,
    )
    assert [d["answer"] for d in table["demonstration"]] == [row.choices[row.gold] for row in PROMPT.demonstrations]
    assert table["offsets"] == {"0": -0.5, "1": -0.9}
    chat = json.loads((tmp_path / "messages.json").read_text())
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert chat[-1]["content"] == PROMPT.template


def test_offsets_are_written_where_there_is_something_to_calibrate(tmp_path: Path) -> None:
    kept.write(tmp_path, replace(made(tmp_path), calibration="none", offsets=[0.0, 0.0]))
    assert "offsets" not in (tmp_path / "prompt.toml").read_text()


def test_messages_are_filled() -> None:
    filled = PROMPT.messages(kept.asked(PROMPT, {"text": "it {is} bound"}))
    assert filled[-1]["content"] == 'Say "it {is} bound"\nAnswer:'


def test_a_field_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown field {text}"):
        kept.asked(PROMPT, {"txt": "a"})


def test_a_value_without_a_field_is_refused() -> None:
    with pytest.raises(UsageError, match="no field 'txet' to fill in") as refused:
        kept.asked(PROMPT, {"text": "a", "txet": "b"})
    assert "did you mean 'text'" in str(refused.value.hint)


WITHOUT_COUNT = """{"name": "a", "template": "{t}", "task": "t", "labels": {}, "calibration": "none", "offsets": [],
                    "virtual_tokens": null}"""


@pytest.mark.parametrize("text", [None, "{", "[]", '{"task": "t"}', WITHOUT_COUNT])
def test_a_broken_file_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / kept.WINNER).write_text(text)
    with pytest.raises(Unavailable, match="cannot read the prompt") as caught:
        kept.read(tmp_path)
    assert str(tmp_path / kept.WINNER) in str(caught.value.where)
