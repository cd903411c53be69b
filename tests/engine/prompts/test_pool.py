"""Candidates: every combination once, the plain template first; demonstrations from the training rows, classes in turn."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row, check_template
from engine.data.tasks import Task
from engine.errors import Unavailable, UsageError
from engine.prompts import pool
from engine.prompts.options import SelectPromptOptions
from engine.prompts.template import Prompt, fill

LABELS = {"0": " no", "1": " yes", "2": " maybe"}


def row(text: str, gold: int = 0) -> Row:
    return Row(text, {"text": text, "title": f"on {text}"}, tuple(LABELS.values()), gold)


def task(train: int = 9, labels: dict[str, str] = LABELS) -> Task:
    splits = [[row(f"{split} {i}", i % 3) for i in range(train)] for split in ("train", "dev", "test")]
    return Task("t", "", "Q: {text}\nA:", labels, *splits, fingerprint="f")


def options(**changes: Any) -> SelectPromptOptions:
    return SelectPromptOptions.model_validate({"use": "select_prompt", "task": "t", **changes})


@pytest.mark.parametrize("name", ["a.b", "0", "on [date]", "two words"])
def test_a_column_may_have_any_name(name: str) -> None:
    one = Row("x", {"text": "x", name: "{y}"}, (" a", " b"), 0)
    check_template(f"{{{name}}}: {{text}}", one.fields, "here")
    assert fill(f"{{{{}}}} {{{name}}}: {{text}}", one) == "{} {y}: x"


def test_the_baseline_comes_first_and_is_the_plain_template() -> None:
    for found in (
        pool.build(task(), options(), 0),
        pool.build(task(), options(candidates=["Say."], demonstrations=[3]), 0),
    ):
        assert (found[0].name, found[0].text()) == (pool.BASELINE, "Q: {text}\nA:")
    assert len(pool.build(task(), options(), 0)) == 1


def test_every_combination_is_there_once() -> None:
    chosen = options(
        candidates=["Say.", "Tell.", "Say."],
        templates=["{title}? {text}"],
        demonstrations=[0, 2, 4, 2],
        demonstration_sets=3,
    )
    found = pool.build(task(), chosen, 0)
    assert len(found) == 3 * 2 * (1 + 3 + 3)
    assert len({prompt.text() for prompt in found}) == len({prompt.name for prompt in found}) == len(found)
    assert found == pool.build(task(), chosen, 0)
    assert found != pool.build(task(), chosen, 1)


def test_repetitions_are_dropped_and_line_breaks_are_none() -> None:
    chosen = options(candidates=["Say.", " Say. ", "Say  it.", "Say it."], templates=["Q: {text} A:", "Q:  {text}\nA:"])
    every = pool.combinations(task(), chosen, 0)
    found = pool.distinct(every, pool.plain(task()))
    assert len(every) == 5 * 3 - 1
    assert [prompt.name for prompt in found] == ["plain", *(f"c{i:02d}" for i in range(1, 6))]
    assert {(prompt.instruction, prompt.template) for prompt in found} == {
        (said, template) for said in ("", "Say.", "Say  it.") for template in ("Q: {text}\nA:", "Q: {text} A:")
    }


def test_a_line_break_at_the_end_makes_another_prompt_and_a_blank_does_not() -> None:
    templates = ["Q: {text}\nA:\n", "\nQ: {text}\nA:", " Q: {text}\nA: "]
    found = pool.build(task(), options(templates=templates), 0)
    assert [prompt.template for prompt in found] == ["Q: {text}\nA:", *templates[:2]]


def test_a_template_that_some_rows_cannot_fill_is_refused() -> None:
    whole = task()
    lacking = [replace(row, fields={"text": row.text}) for row in whole.dev[:1]]
    with pytest.raises(Unavailable, match="no text or number in column 'title'") as caught:
        pool.build(replace(whole, dev=[*whole.dev, *lacking]), options(templates=["{title}: {text}"]), 0)
    assert str(caught.value.where).endswith(f"dev row {len(whole.dev) + 1}")
    assert "leave such rows out" in (caught.value.hint or "")


@given(st.integers(0, 4), st.integers(1, 30))
def test_orders_show_the_same_rows_each_once_and_begin_with_the_draw(count: int, wanted: int) -> None:
    rows = pool.draw(task().train, count, True, Random(0))
    found = pool.orders(rows, wanted, "s")
    assert found[0] == rows
    assert len(found) == len(set(map(repr, found))) == min(wanted, math.factorial(count))
    assert all(sorted(map(repr, order)) == sorted(map(repr, rows)) for order in found)
    assert pool.orders(rows, wanted, "s") == found


def test_every_draw_has_its_orders_and_origins_say_which() -> None:
    chosen = options(candidates=["Say."], demonstrations=[0, 2, 3], demonstration_sets=2, demonstration_orders=4)
    found = pool.build(task(), chosen, 0)
    assert len(found) == 2 * (1 + 2 * 2 + 2 * 4)
    assert len({prompt.text() for prompt in found}) == len({prompt.origin for prompt in found}) == len(found)
    assert "candidates, 3 demonstrations, draw 1, order 2" in {prompt.origin for prompt in found}


@given(st.integers(0, 9), st.integers(0, 100))
def test_demonstrations_are_training_rows_with_classes_in_balance(count: int, seed: int) -> None:
    drawn = pool.draw(task().train, count, True, Random(seed))
    assert len(drawn) == len({row.text for row in drawn}) == count
    assert all(row in task().train for row in drawn)
    per_class = Counter(row.gold for row in drawn)
    assert all(per_class[gold] in (count // 3, count // 3 + 1) for gold in range(3))


def test_multiple_choice_has_no_classes_to_balance() -> None:
    assert len({row.text for row in pool.draw(task(labels={}).train, 5, False, Random(0))}) == 5


def test_more_demonstrations_than_training_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot draw 10 demonstrations") as caught:
        pool.build(task(), options(demonstrations=[0, 10]), 0)
    assert "9 training rows" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("template", "word"),
    [("{txt}", "txt"), ("{0}", "0"), ("{text", ""), ("}", ""), ("Is it?", "no field"), ("{{text}}", "no field")],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        pool.build(task(), options(templates=["{text} fine", template]), 0)
    assert word in caught.value.message
    assert "templates.1" in (caught.value.where or "")


def test_a_pool_file_is_one_instruction_a_line(tmp_path: Path) -> None:
    file = tmp_path / "pool.txt"
    file.write_text("Say so.\n\n  Tell me:\\nnow  \n", encoding="utf-8")
    assert pool.read_pool(f"file:{file}") == ["Say so.", "Tell me:\nnow"]
    found = pool.build(task(), options(pool=f"file:{file}", candidates=["First."]), 0)
    assert [prompt.instruction for prompt in found] == ["", "First.", "Say so.", "Tell me:\nnow"]


def test_a_pool_file_may_begin_with_a_mark_and_lie_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pool.txt").write_text("Say so.\nTell me.\n", encoding="utf-8-sig")
    assert pool.read_pool("file:~/pool.txt") == ["Say so.", "Tell me."]


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe\x00"])
def test_a_pool_file_that_cannot_serve(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "pool.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Unavailable, match="prompt pool") as caught:
        pool.read_pool(f"file:{file}")
    assert caught.value.where == str(file)
    assert str(file) not in caught.value.message
    assert caught.value.hint


def test_a_pool_file_that_is_misspelled_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Say so.")
    for name, hint in (("promts.txt", "did you mean 'prompts.txt'?"), ("", "name a file in the folder")):
        with pytest.raises(Unavailable) as caught:
            pool.read_pool(f"file:{tmp_path / name}")
        assert caught.value.hint == hint


def test_a_prompt_is_instruction_demonstrations_and_template() -> None:
    prompt = Prompt("p", "Q: {text}\nA:", "Say.", (row("one", 1), row("two", 2)))
    assert prompt.fill(row("three")) == "Say.\n\nQ: one\nA: yes\n\nQ: two\nA: maybe\n\nQ: three\nA:"
    assert prompt.text() == "Say.\n\nQ: one\nA: yes\n\nQ: two\nA: maybe\n\nQ: {text}\nA:"
    assert Prompt("p", "{text}").fill(row("three")) == "three"


@given(st.text())
def test_braces_in_a_rows_text_stay_as_they_are(text: str) -> None:
    assert fill("<{text}>", row(text)) == f"<{text}>"
    assert fill("{{{text}}}", row(text)) == "{" + text + "}"
