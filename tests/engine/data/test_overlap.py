"""Test rows that train or dev rows ask too: found through case, blanks and punctuation; dropped, refused or allowed as told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.prompting import at_work
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine.data import overlap
from engine.data.options import TaskOptions
from engine.data.rows import Row
from engine.data.tasks import SPLITS, Task, complete, load_task
from engine.errors import Unavailable, UsageError
from engine.registry import TASKS

LABELS = {"0": " bad", "1": " good"}


def row(text: str, choices: tuple[str, ...] = (" bad", " good"), **fields: str) -> Row:
    return Row(text, {"text": text, **fields}, choices, 0)


def question(text: str) -> str:
    return overlap.question(row(text), "{text}")


def options(folder: Path, splits: dict[str, list[str]], **changes: Any) -> TaskOptions:
    """A task of files with these texts, labels in turn."""
    for split, texts in splits.items():
        lines = [json.dumps({"text": text, "label": i % 2}) for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    sources = {split: f"file:{folder / split}.jsonl" for split in splits}
    return TaskOptions.model_validate({"template": "{text}:", "labels": LABELS, **sources, **changes})


def texts(rows: list[Row]) -> list[str]:
    return [row.text for row in rows]


@pytest.mark.parametrize("other", ["What 's  next?", "what's next", "WHAT, S NEXT!", "“What’s next …”"])
def test_questions_read_the_same_but_for_case_blanks_and_punctuation(other: str) -> None:
    assert question(other) == question("what 's next ?")


@pytest.mark.parametrize("pair", [("3 + 4", "3 - 4"), ("3 - 4", "3 / 4"), ("5", "-5"), ("...", "?"), ("1.5", "15")])
def test_signs_ahead_of_numbers_are_no_punctuation(pair: tuple[str, str]) -> None:
    assert question(pair[0]) != question(pair[1])


def test_what_a_template_does_not_show_does_not_tell_questions_apart_and_own_choices_do() -> None:
    one, other = row("a knife", (" cut", " cook"), id="1"), row("a knife", (" cut", " eat"), id="2")
    assert overlap.question(one, "{text}") != overlap.question(other, "{text}")
    assert overlap.question(one, "{text}") == overlap.question(row("A knife.", (" cut", " cook"), id="3"), "{text}")
    shown = [overlap.question(row("a knife", id=number), "{id}: {text}") for number in ("1", "3")]
    assert shown[0] != shown[1]


def test_what_is_right_of_a_free_answer_does_not_tell_questions_apart(tmp_path: Path) -> None:
    files = {"train": [("a dog?", ["yes", "it is"])], "dev": [("a cat?", ["no"])], "test": [("A dog", ["yes", "sure"])]}
    for split, rows in files.items():
        lines = [json.dumps({"text": text, "answer": right}) for text, right in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    sources = {split: f"file:{tmp_path / split}.jsonl" for split in files}
    chosen = TaskOptions.model_validate({"template": "{text}:", "answer_column": "answer", **sources})
    with pytest.raises(UsageError, match="1 train rows are in the test split too"):
        load_task("x", chosen, 0)
    both = [Row("dog", {"text": "dog", "id": str(i)}, right, 0) for i, right in enumerate([(" a", " b"), (" a", " c")])]
    drawn = [replace(row, text=row.fields["id"]) for row in both]
    assert [len(overlap.together(drawn, "{text}", free)) for free in (False, True)] == [2, 1]


MANY = [f"test {'abcdefghij'[i // 26]}{chr(97 + i % 26)}" for i in range(200)]
FILES = {"train": ["one", "Two.", "three"], "dev": ["four", "five", "  TEST aa!"], "test": ["two", *MANY]}


def test_a_handful_is_dropped_from_train_and_dev_and_told(tmp_path: Path) -> None:
    task = load_task("x", options(tmp_path, FILES), 0)
    assert (texts(task.train), texts(task.dev), len(task.test)) == (["one", "three"], ["four", "five"], 201)
    assert task.notes == (
        "task x: 1 train rows and 1 dev rows are in the test split too, case, blanks and punctuation aside, as 'Two.'; "
        "they are left out",
    )
    told = list[ev.Event]()
    made = at_work(tmp_path / "run", told=told)
    made._tasks.clear()
    made.profile = made.profile.model_copy(update={"task": {"x": options(tmp_path, FILES)}})
    made.task("x")
    made.task("x")
    assert [event.message for event in told if isinstance(event, ev.Log)] == list(task.notes)


def test_more_than_a_handful_is_refused_unless_told(tmp_path: Path) -> None:
    files = {**FILES, "dev": [*FILES["dev"], "test ab"]}
    for split_files, how in ((FILES, "refuse"), (files, "auto")):
        with pytest.raises(UsageError, match="rows are in the test split too") as refused:
            load_task("x", options(tmp_path, split_files, overlap=how), 0)
        assert refused.value.where == "task x"
        assert 'overlap = "drop"' in (refused.value.hint or "")
    assert len(load_task("x", options(tmp_path, files, overlap="drop"), 0).dev) == 2
    allowed = load_task("x", options(tmp_path, files, overlap="allow"), 0)
    assert (len(allowed.train), len(allowed.dev)) == (3, 4)
    assert "too good" in allowed.notes[0]
    assert allowed.fingerprint != load_task("x", options(tmp_path, files, overlap="drop"), 0).fingerprint


def test_nothing_left_of_a_split(tmp_path: Path) -> None:
    files = {"train": ["one"], "dev": ["Test aa"], "test": MANY}
    with pytest.raises(Unavailable, match="every dev row is in the test split"):
        load_task("x", options(tmp_path, files), 0)


ELSEWHERE = [text.replace("test", "dev") for text in MANY]


def test_a_training_row_that_the_dev_split_asks_is_left_out_of_train(tmp_path: Path) -> None:
    files = {"train": ["one", "DEV aa?"], "dev": ELSEWHERE, "test": MANY}
    task = load_task("x", options(tmp_path, files), 0)
    assert (texts(task.train), len(task.dev)) == (["one"], 200)
    assert task.notes == (
        "task x: 1 train rows are in the dev split too, case, blanks and punctuation aside, as 'DEV aa?'; they are left out",
    )
    both = load_task("x", options(tmp_path, {**files, "dev": [*ELSEWHERE, "Test aa"]}), 0)
    assert [("in the test split" in note, "in the dev split" in note) for note in both.notes] == [(1, 0), (0, 1)]


def test_training_rows_that_are_development_rows_are_refused_unless_told(tmp_path: Path) -> None:
    files = {"train": ["one", *ELSEWHERE[:3]], "dev": ELSEWHERE, "test": MANY}
    with pytest.raises(UsageError, match="3 train rows are in the dev split too") as refused:
        load_task("x", options(tmp_path, files), 0)
    assert (refused.value.where, 'out of train, "allow"' in str(refused.value.hint)) == ("task x", True)
    assert texts(load_task("x", options(tmp_path, files, overlap="drop"), 0).train) == ["one"]
    allowed = load_task("x", options(tmp_path, files, overlap="allow"), 0)
    assert len(allowed.train) == 4
    assert "chosen too readily" in allowed.notes[0]
    with pytest.raises(Unavailable, match="every train row is in the dev split too"):
        load_task("x", options(tmp_path, {**files, "train": ELSEWHERE}, overlap="drop"), 0)


def test_confirm_rows_that_another_split_asks_are_left_out_and_nothing_else_is(tmp_path: Path) -> None:
    files = {"train": MANY, "dev": ELSEWHERE, "test": [text.replace("test", "last") for text in MANY]}
    without = load_task("x", options(tmp_path, files), 0)
    assert (without.confirm, without.notes) == ([], ())
    new = [text.replace("test", "new") for text in MANY]
    fresh = ["TEST ab.", *new, "Dev ac", "last ad"]
    task = load_task("x", options(tmp_path, {**files, "confirm": fresh}), 0)
    assert texts(task.confirm) == new
    assert [len(getattr(task, split)) for split in SPLITS] == [200, 200, 200]
    assert [f"1 confirm rows are in the {split} split too" in note for split, note in
            zip(("test", "dev", "train"), task.notes, strict=True)] == [True] * 3  # fmt: skip
    assert task.fingerprint != without.fingerprint
    with pytest.raises(UsageError, match="1 confirm rows are in the test split too"):
        load_task("x", options(tmp_path, {**files, "confirm": fresh[-9:]}), 0)
    cleaned = load_task("x", options(tmp_path, {**files, "confirm": [*new, MANY[3], ELSEWHERE[4]]}, clean={}), 0)
    assert ([len(getattr(cleaned, split)) for split in SPLITS], texts(cleaned.confirm)) == ([200, 200, 200], new)


def test_confirm_rows_that_are_training_rows_are_refused_unless_told(tmp_path: Path) -> None:
    files = {"train": MANY, "dev": ["a", "b"], "test": ["c", "d"], "confirm": ["new", *MANY[:3]]}
    with pytest.raises(UsageError, match="3 confirm rows are in the train split too"):
        load_task("x", options(tmp_path, files), 0)
    assert texts(load_task("x", options(tmp_path, files, overlap="drop"), 0).confirm) == ["new"]
    allowed = load_task("x", options(tmp_path, files, overlap="allow"), 0)
    assert allowed.notes == (
        "task x: 3 confirm rows are in the train split too, case, blanks and punctuation aside, as 'test aa'; they stay, and "
        "what is confirmed was seen before",
    )


@given(st.lists(st.sampled_from(["a b", "A b!", "a  b", "c", "C.", "d", "e", "f"]), min_size=40, max_size=60),
       st.sampled_from([("test",), ("train", "dev"), ("dev", "test"), ("train", "test")]))  # fmt: skip
def test_splits_that_are_cut_here_never_overlap(drawn: list[str], named: tuple[str, ...]) -> None:
    """The texts of several named splits are told apart: what is checked is how one is cut."""
    rows = {split: [row(f"{split} {text}") for text in [*drawn, "a", "c", "d", "e", "f"]] for split in named}
    whole = complete(rows, 0, "x", "{text}")
    assert [overlap.found(whole, "{text}", split=split) for split in overlap.BEFORE] == [None] * 3


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("12345678")), max_size=12))
def test_groups_are_the_connected_ones(drawn: list[tuple[str, str]]) -> None:
    """Text or question in common, directly or by way of others: against closing the relation step by step."""
    rows = [row(text, number=number) for text, number in drawn]
    groups = overlap.together(rows, "{number}")
    assert sorted(map(id, (r for g in groups for r in g))) == sorted(map(id, rows))
    for start in range(len(rows)):
        reached = {start}
        for _ in rows:
            reached |= {j for i in reached for j in range(len(rows)) if set(drawn[i]) & set(drawn[j])}
        (group,) = [g for g in groups if any(r is rows[start] for r in g)]
        assert {id(rows[i]) for i in reached} == {id(r) for r in group}


@pytest.mark.parametrize("name", TASKS.names())
def test_built_in_tasks_do_not_overlap(name: str) -> None:
    task: Task = load_task(name, None, 0)
    assert task.notes == ()
    splits = {split: getattr(task, split) for split in SPLITS}
    assert [overlap.found(splits, task.template, split=split) for split in overlap.BEFORE] == [None] * 3
