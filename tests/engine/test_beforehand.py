"""What `profile check` finds without a model: everything at once, and nothing in what a run would take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import beforehand, profile
from engine.errors import Several

PROFILE = """
[model]
source = "demo"
[calibration]
source = "file:text.txt"
[task.mood]
train = "file:train.jsonl"
dev = "file:dev.jsonl"
test = "file:test.jsonl"
template = "Review: {text}"
labels = { a = " yes", b = " no" }
[[step]]
use = "prune"
[[step]]
use = "select_prompt"
task = "mood"
candidates = ["Yes or no?", "True?"]
demonstrations = [0, 2]
budget = 48
[[step]]
use = "adjust_prompt"
task = "mood"
budget = 300
"""
EXPORTED = '[[step]]\nuse = "embed_prompt"\ntask = "mood"\n[[step]]\nuse = "export"\nformat = "gguf_f16"'
POOL = 'candidates = ["Yes or no?", "True?"]'


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Several | None]:
    """Checks the profile with some texts in it replaced; returns what is wrong."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("some text")
    for split, count in (("train", 6), ("dev", 20), ("test", 6)):
        lines = [json.dumps({"text": f"{split} {i} {i * i}", "label": "ab"[i % 2]}) for i in range(count)]
        Path(f"{split}.jsonl").write_text("\n".join(lines))

    def checked(*replaced: tuple[str, str]) -> Several | None:
        text = PROFILE
        for old, new in replaced:
            assert old in text, old
            text = text.replace(old, new)
        try:
            beforehand.check(profile.parse(text, "test"))
        except Several as error:
            return error
        return None

    return checked


def test_nothing_is_wrong_with_what_a_run_would_take(check: Callable[..., Several | None]) -> None:
    assert check() is None
    assert check(("budget = 48", 'budget = "10 tokens"')) is None, "how long a prompt is only the model knows"


@pytest.mark.parametrize(
    ("replaced", "code", "words"),
    [
        ((POOL, 'pool = "file:nope.txt"'), 3, ["nope.txt: the prompt pool: no such file", "hint: "]),
        ((POOL, "candidates = ['']\ntemplates = ['Say']"), 2, ["step.1.templates.0: the template has no field"]),
        ((f"{POOL}\ndemonstrations = [0, 2]", "templates = ['Review: {text}']"), 2, ["plain prompt alone"]),
        (("demonstrations = [0, 2]", "demonstrations = [7]"), 2, ["task mood: cannot draw 7 demonstrations"]),
        (("budget = 48", "budget = 47"), 2, ["step.1.budget: a budget of 47 examples for 6 prompts", "at least 48"]),
        (("budget = 300", f"budget = 300\n{EXPORTED}"), 2, ["step.4.format: gguf_f16 has no room", "that step 4 may choose"]),
        (("budget = 300", "budget = 40"), 2, ["step.2.budget: a budget of 40 examples", "at least 66"]),
        (("{text}", "text"), 2, ["task mood: the template has no field", "hint: name what to show of a row, as {text}"]),
        (("{text}", "{txt}"), 2, ["task mood: unknown field {txt}", "hint: did you mean 'text'?"]),
        (("{text}", "{text:d}"), 2, ["task mood: {text:d} in the template", "hint: write {text}"]),
        (("test.jsonl", "tset.jsonl"), 3, ["tset.jsonl: no such file", "hint: did you mean 'test.jsonl'"]),
        (("file:text.txt", "file:txt.txt"), 3, ["calibration.source: no such file or folder", "did you mean 'text.txt'"]),
        (('"demo"', '"model.gguf"'), 3, ["model.source: no such file or folder: model.gguf", "hint: "]),
        (('"demo"', '"./model"'), 3, ["model.source: no such file or folder", "hint: "]),
        (('task = "mood"\ncand', 'task = "mood"\ncalibration = "batch"\ndev_rows = 1\ncand'), 2, []),
    ],
)  # fmt: skip
def test_a_problem_is_found_and_said_with_its_place_and_a_hint(
    replaced: tuple[str, str], code: int, words: list[str], check: Callable[..., Any]
) -> None:
    found = check(replaced)
    if not words:
        assert found is None, "few rows are less than a block"
        return
    assert found.exit_code == code
    assert len(found.errors) == 1
    told = "\n".join(found.lines())
    assert [word for word in words if word not in told] == []


def test_everything_is_said_at_once(check: Callable[..., Any]) -> None:
    found = check(
        (POOL, 'pool = "file:nope.txt"'), ("file:text.txt", "file:x/no.txt"), ("budget = 300", "budget = 40"),
        ('"demo"', '"/no/model"'),
    )  # fmt: skip
    assert [error.exit_code for error in found.errors] == [3, 3, 3, 2]
    assert found.exit_code == 2
    assert len(found.lines()) == 8


@pytest.mark.parametrize(("name", "unknown"), [("mood", 1), ("sst2", 0)])
def test_every_text_of_a_pool_is_looked_at_also_where_rows_are_left_to_the_run(
    name: str, unknown: int, check: Callable[..., Any]
) -> None:
    texts = 'pool = "file:nope.txt"\ntemplates = ["none", "{text", "{what}: {text}"]'
    found = check((f'task = "mood"\n{POOL}', f'task = "{name}"\n{texts}'))
    assert [error.where.removeprefix("step.1.") for error in found.errors[1:]] == [
        f"templates.{index}" for index in range(2 + unknown)
    ]
    assert "the prompt pool: no such file" in found.errors[0].message


def test_an_adjuster_that_does_not_suit_the_task_is_told(check: Callable[..., Any]) -> None:
    gcg = ("budget = 300", 'method = "gcg"\nbudget = 300')
    assert check(gcg) is None
    [error] = check(gcg, ("labels = {", 'chat = "on"\nlabels = {')).errors
    assert (error.where, error.exit_code) == ("step.2.method", 2)
    assert "asked as a chat" in error.message
    assert check(gcg, ("labels = {", 'chat = "auto"\nlabels = {')) is None, (
        "a plain text, where the model has no template"
    )
    assert error.hint
