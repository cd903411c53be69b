"""Tasks: splits are disjoint and repeatable, every kind of rows loads, wrong labels and templates are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError

from engine.data import tables
from engine.data.options import CleanOptions, TaskOptions
from engine.data.rows import Row
from engine.data.tasks import SHARES, SPLITS, Generation, Task, complete, load_task
from engine.errors import EngineError, Unavailable, UsageError
from engine.registry import TASKS

LABELS = {"0": " bad", "1": " good"}


def row(text: str) -> Row:
    return Row(text, {"text": text}, (" a", " b"), 0)


def options(**changes: Any) -> TaskOptions:
    return TaskOptions(**{"template": "{text}:", "labels": LABELS, **changes})


def sizes(task: Task) -> tuple[int, int, int]:
    return len(task.train), len(task.dev), len(task.test)


def parts(task: Task) -> list[set[str]]:
    return [{row.text for row in split} for split in (task.train, task.dev, task.test)]


@pytest.mark.parametrize("name", TASKS.names())
def test_built_in_tasks(name: str) -> None:
    task = load_task(name, None, 0)
    assert sum(map(len, parts(task))) == len(set.union(*parts(task)))
    assert min(sizes(task)) >= 80
    assert task.description
    for one in (*task.train, *task.dev, *task.test):
        assert 0 <= one.gold < len(one.choices)
        assert all(choice.startswith(" ") and choice.strip() for choice in one.choices)
        assert task.template.format_map(one.fields).strip()
        assert not task.labels or one.choices == tuple(task.labels.values())
    assert load_task(name, None, 0) == task
    assert load_task(name, None, 1).fingerprint != task.fingerprint


def test_sst2_is_split_as_the_demo_needs_it() -> None:
    task = load_task("sst2", None, 0)
    assert sizes(task) == (87, 305, 480)
    assert len({row.text for row in task.test}) == 480
    first = task.test[0]
    assert task.template.format_map(first.fields) == f"Review: {first.text}\nSentiment:"
    assert first.choices == (" negative", " positive")


def test_the_shared_sst2_files_load_in_their_order(shared_data: Path) -> None:
    folder = shared_data / "classification" / "sst2"
    task = load_task("x", options(**{split: f"file:{folder / split}.txt" for split in SPLITS}), 0)
    assert sizes(task) == (6920 - 4, 872, 1821)
    assert "3 train rows are in the test split too" in task.notes[0]
    first = (folder / "test.txt").read_text().split("\n")[0]
    assert f"{task.test[0].gold} {task.test[0].text}" == first.strip()


def test_the_shared_multiple_choice_files_load(shared_data: Path) -> None:
    source = f"file:{shared_data}/multiple_choice/arc_easy.jsonl"
    task = load_task("x", options(labels={}, test=source, text_column="query", label_column="gold",
                                  choices_column="choices", template="{query}\nAnswer:"), 0)  # fmt: skip
    assert sum(sizes(task)) == 2376


RECORDS = [{"text": f'row {i}, "x"', "label": i % 2, "more": f"m{i}"} for i in range(12)]


def write(folder: Path, kind: str) -> str:
    file = folder / f"rows.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(record) for record in RECORDS))
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(RECORDS), file)
    elif kind == "txt":
        file.write_text("\n\n".join(f"{record['label']} {record['text']} " for record in RECORDS))
    else:
        comma = "," if kind == "csv" else "\t"
        quoted = [[str(v).replace('"', '""') for v in record.values()] for record in RECORDS]
        lines = [comma.join(RECORDS[0]), *(comma.join(f'"{cell}"' for cell in cells) for cells in quoted)]
        file.write_text("\n".join(lines))
    return f"file:{file}"


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    task = load_task("x", options(test=write(tmp_path, kind)), 3)
    rows = sorted((*task.train, *task.dev, *task.test), key=lambda r: int(r.text.split()[1].strip(",")))
    assert [(r.text, r.gold) for r in rows] == [(record["text"], record["label"]) for record in RECORDS]
    assert all(
        r.fields == ({"text": r.text} if kind == "txt" else {"text": r.text, "more": r.fields["more"]}) for r in rows
    )
    assert sizes(task) == (1, 4, 7)


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "parquet"])
def test_a_source_may_be_a_range_of_rows(tmp_path: Path, kind: str) -> None:
    file = write(tmp_path, kind)
    task = load_task("x", options(train=file + "[:2]", dev=file + "[2:5]", test=file + "[5:]"), 0)
    texts = [record["text"] for record in RECORDS]
    assert [[r.text for r in split] for split in (task.train, task.dev, task.test)] == [
        texts[:2],
        texts[2:5],
        texts[5:],
    ]
    with pytest.raises(Unavailable, match="no rows") as caught:
        load_task("x", options(test=file + "[12:20]"), 0)
    assert "12 rows" in (caught.value.hint or "")


@given(
    st.lists(st.integers(0, 30), min_size=60, max_size=120),
    st.sampled_from([(s,) for s in SPLITS] + [("train", "test"), ("train", "dev"), ("dev", "test")]),
    st.integers(0, 5),
)
def test_splits_lose_nothing_share_nothing_and_repeat(numbers: list[int], named: tuple[str, ...], seed: int) -> None:
    rows = [row(f"{i % 40} {n}") for i, n in enumerate(numbers)]
    given_splits = {split: [row(f"{split} {r.text}") for r in rows] for split in named}
    done = complete(given_splits, seed, "x")
    assert sorted(r.text for s in SPLITS for r in done[s]) == sorted(r.text for s in named for r in given_splits[s])
    texts = [{r.text for r in done[s]} for s in SPLITS]
    assert all(texts)
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert complete(given_splits, seed, "x") == done
    source, shares = SHARES[named]
    for split in set(named) - {source}:
        assert done[split] == given_splits[split]
    for split, share in shares.items():
        distinct = len({r.text for r in given_splits[source]})
        assert abs(len({r.text for r in done[split]}) - share * distinct) <= 2


def test_another_seed_splits_otherwise() -> None:
    rows = {"test": [row(str(i)) for i in range(100)]}
    assert complete(rows, 0, "x")["test"] != complete(rows, 1, "x")["test"]


def test_too_few_rows_to_split() -> None:
    with pytest.raises(Unavailable, match="2 different rows cannot make 3 splits"):
        complete({"dev": [row("a"), row("b"), row("a")]}, 0, "x")


@pytest.mark.parametrize(
    ("choices", "label", "gold"),
    [
        (["x", " y"], 1, 1),
        ('["x", "y"]', "0", 0),
        ({"text": ["x", "y"], "label": ["A", "B"]}, "B", 1),
        ({"text": ["x", "y"], "label": ["1", "2"]}, "1", 0),
        ('{"text": ["x", "y"], "label": ["1", "2"]}', 1, 0),
    ],
)
def test_multiple_choice(tmp_path: Path, choices: Any, label: Any, gold: int) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"q": f"question {i}", "options": choices, "answer": label} for i in range(5)]
    file.write_text("\n".join(json.dumps(one) for one in rows))
    task = load_task("x", options(labels={}, test=f"file:{file}", text_column="q", label_column="answer",
                                  choices_column="options", template="{q}"), 0)  # fmt: skip
    assert task.labels == {}
    assert (task.test[0].choices, task.test[0].gold) == ((" x", " y"), gold)
    assert set(task.test[0].fields) == {"q", "text"}


@pytest.mark.parametrize(
    ("name", "content", "error", "said", "where", "hint"),
    [
        (
            "a.txt",
            "0 fine\n\n2 odd\n",
            Unavailable,
            "label '2' is not one of the choices",
            "a.txt, line 3",
            "known: 0, 1",
        ),
        ("a.csv", "label,text\n0,x\nbad,y\n", Unavailable, "label 'bad'", "a.csv, line 3", "known: 0, 1"),
        ("a.txt", "0 fine\n1\n", Unavailable, "no text after the label", "a.txt, line 2", "a label, a blank"),
        ("a.txt", "\n", Unavailable, "no rows", "a.txt", ""),
        (
            "a.csv",
            "label,texts\n0,x\n",
            UsageError,
            "no column 'text', which text_column names",
            "a.csv",
            "did you mean 'texts'",
        ),
        (
            "a.csv",
            "labels,text\n0,x\n",
            UsageError,
            "no column 'label', which label_column names",
            "a.csv",
            "did you mean 'labels'",
        ),
        ("a.doc", "x", UsageError, "not a table", "a.doc", ".csv"),
    ],
)
def test_bad_rows(
    tmp_path: Path, name: str, content: str, error: type[EngineError], said: str, where: str, hint: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=said) as caught:
        load_task("x", options(test=f"file:{tmp_path / name}"), 0)
    assert caught.value.where == f"task.x.test: {tmp_path}/{where}"
    assert hint in (caught.value.hint or "")


DEEP = json.dumps("[" * 100_000)


@pytest.mark.parametrize(
    "choices",
    ['"x"', '["only"]', "[1, 2]", "null", '{"label": ["A"]}', '{"text": ["a", "b"], "label": ["0", "1", "2"]}', DEEP],
)
def test_bad_choices(tmp_path: Path, choices: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"text": "q", "options": {choices}, "label": 0}}\n')
    with pytest.raises(Unavailable) as caught:
        load_task("x", options(test=f"file:{file}", choices_column="options"), 0)
    assert "rows.jsonl" in (caught.value.where or "")


@pytest.mark.parametrize(
    ("choices", "said", "hint"),
    [(["yes", "yes "], "the only choice is 'yes'", "differ"), (["yes", ""], "choice 1 is empty", "none of these")],
)
def test_choices_that_nobody_can_tell_apart(tmp_path: Path, choices: list[str], said: str, hint: str) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "q", "options": given, "label": 0} for given in (["a", "b"], choices)]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(Unavailable, match=said) as caught:
        load_task("x", options(test=f"file:{file}", choices_column="options"), 0)
    assert str(caught.value.where).endswith("rows.jsonl, line 2")
    assert hint in (caught.value.hint or "")


def test_a_choice_that_stands_twice_is_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"text": f"q{gold}", "options": ["a", "b", "a ", "c"], "label": gold} for gold in range(4)]
    file.write_text("\n".join(map(json.dumps, rows)))
    task = load_task("x", options(test=f"file:{file}", choices_column="options"), 0)
    every = sorted([*task.train, *task.dev, *task.test], key=lambda row: row.text)
    assert {row.choices for row in every} == {(" a", " b", " c")}
    assert [row.gold for row in every] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("template", "said", "hint"),
    [
        ("{txt}:", "unknown field {txt}", "did you mean 'text'"),
        ("{text.__class__}", "unknown field", "known: more, text"),
        ("{}", "unknown field", "known: more, text"),
        ("{label}", "unknown field {label}", "known: more, text"),
        ("{text", "template: ", "{{ and }}"),
        ("{text:d}", "{text:d} in the template", "write {text}, or {{text:d}}"),
        ("{text!x}", "{text!x} in the template", "write {text}"),
        ("{text!r:>9}", "{text!r:>9} in the template", "write {text}"),
        ("{text:{width}}", "{text:{width}} in the template", "write {text}"),
    ],
)
def test_bad_templates(tmp_path: Path, template: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_task("x", options(test=write(tmp_path, "csv"), template=template), 0)
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("last", "place"), [("test", "test.jsonl, line 2"), ("train", "train.jsonl, line 2")])
@pytest.mark.parametrize("context", [{}, {"context": None}, {"context": ["a"]}])
def test_a_row_that_lacks_a_field_of_the_template(last: str, place: str, context: Any, tmp_path: Path) -> None:
    whole = {"text": "one", "label": 0, "context": "given"}
    for split in ("train", "dev", "test"):
        second = {"text": "two", "label": 1, **(context if split == last else {"context": 3})}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(whole) + "\n" + json.dumps(second))
    sources = {split: f"file:{tmp_path / split}.jsonl" for split in SPLITS}
    with pytest.raises(Unavailable, match="no text or number in column 'context'") as refused:
        load_task("x", options(template="{context} {text}:", overlap="allow", **sources), 0)
    assert str(refused.value.where).endswith(place)


def test_cleaning_takes_a_test_row_out_of_the_training_rows(tmp_path: Path) -> None:
    for split, lines in {"train": ["0 a  b", "1 c", "1 c"], "dev": ["1 d"], "test": ["0 a b", "1 e"]}.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    sources = {split: f"file:{tmp_path / split}.txt" for split in SPLITS}
    task = load_task("x", options(**sources, clean=CleanOptions()), 0)
    assert parts(task) == [{"c"}, {"d"}, {"a b", "e"}]
    assert task.counts is not None
    assert task.counts.exact == 2
    with pytest.raises(Unavailable, match="cleaning left no"):
        load_task("x", options(**sources, clean=CleanOptions(min_chars=2)), 0)


def test_cleaning_goes_by_the_whole_question(tmp_path: Path) -> None:
    asked = [(f"passage {i}", ask) for i in range(4) for ask in ("why", "who")]
    rows = [{"text": text, "ask": ask, "label": i % 2} for i, (text, ask) in enumerate([*asked, asked[0]])]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = options(template="{text} {ask}?", clean=CleanOptions(), test=f"file:{tmp_path}/rows.jsonl")
    task = load_task("x", given, 0)
    assert task.counts is not None
    assert (task.counts.kept, task.counts.exact) == (8, 1)


def test_rows_that_are_sorted_by_class_are_mixed(tmp_path: Path) -> None:
    lines = [f"{i // 40} text {i}" for i in range(80)]
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text("\n".join(f"{line} of {split}" for line in lines))
    sources = {split: f"file:{tmp_path / split}.txt" for split in SPLITS}
    task, again = load_task("x", options(**sources), 0), load_task("x", options(**sources), 7)
    for rows in (task.dev, task.test):
        for end in range(2, 81, 2):
            assert sum(row.gold for row in rows[:end]) == end // 2
    assert (again.dev, again.test) == (task.dev, task.test)
    assert [row.gold for row in task.train] == sorted(row.gold for row in task.train)
    assert task.notes == tuple(f"task x: the {s} rows are sorted by class, and are mixed" for s in ("dev", "test"))


def test_unknown_built_in_task() -> None:
    with pytest.raises(UsageError) as caught:
        load_task("sst", None, 0)
    assert "sst2" in (caught.value.hint or "")


# Free answers


def free(**changes: Any) -> TaskOptions:
    return TaskOptions(**{"template": "{text}:", "answer_column": "answer", **changes})


def test_free_answers_are_texts_or_lists_of_texts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    answers = ["one", [" two ", "zwei"], "three", "four", "five"]
    file.write_text(
        "\n".join(json.dumps({"text": f"t{i}", "answer": a, "label": "kept"}) for i, a in enumerate(answers))
    )
    task = load_task("x", free(test=f"file:{file}", max_new_tokens=7, stop="."), 0)
    rows = {row.text: row for row in (*task.train, *task.dev, *task.test)}
    assert rows["t0"].choices == (" one",)
    assert (rows["t1"].choices, rows["t1"].gold) == ((" two", " zwei"), 0)
    assert set(rows["t1"].fields) == {"text"}
    assert (task.metric, task.labels, task.generation) == ("exact_match", {}, Generation(7, "."))


def test_a_list_of_answers_in_a_cell_is_one(tmp_path: Path) -> None:
    answers = ['["two", "zwei "]', "[1, 2]", "[sic] two", "two"]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "answer"), *((f"t{i}", answer) for i, answer in enumerate(answers))])
    task = load_task("x", free(test=f"file:{tmp_path}/rows.csv"), 0)
    rows = {row.text: row.choices for row in (*task.train, *task.dev, *task.test)}
    assert rows == {"t0": (" two", " zwei"), "t1": (" [1, 2]",), "t2": (" [sic] two",), "t3": (" two",)}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize(
    "row",
    [
        {"text": "cut \ud83d"},
        {"text": "t", "options": ["a", "\udc00"]},
        {"text": "t", "more": {"a": [{"b": "\ud800"}]}},
    ],
)
def test_half_of_a_character_is_refused_with_its_place(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": "whole \U0001f600", "label": 0}, {**row, "label": 0}]
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    (tmp_path / name).write_text(text)
    with pytest.raises(Unavailable, match=r"half of a character, \\ud") as caught:
        load_task("x", options(test=f"file:{tmp_path / name}"), 0)
    assert str(caught.value.where).endswith(" 2")


@pytest.mark.parametrize("answer", [3, "", [], ["a", ""], {"a": "b"}])
def test_bad_answers(tmp_path: Path, answer: Any) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": "t", "answer": answer}))
    with pytest.raises(Unavailable, match="an answer must be a text"):
        load_task("x", free(test=f"file:{file}"), 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": LABELS}, "answer_column is for free answers"),
        ({"choices_column": "c"}, "answer_column is for free answers"),
        ({"metric": "accuracy"}, "accuracy is for a task with choices, and this one has answers"),
        ({"max_new_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_free_answers_do_not_have(changes: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        free(test="file:x.csv", **changes)


def test_aligned_files_are_columns(tmp_path: Path) -> None:
    (tmp_path / "t.en.txt").write_text("".join(f"line {i}\n" for i in range(30)))
    (tmp_path / "t.de.txt").write_text("\n".join(f"Zeile {i}" for i in range(30)))
    made = free(test=f"file:{tmp_path}/t.{{en,de}}.txt", text_column="en", answer_column="de", template="{en}:")
    task = load_task("x", made, 0)
    rows = [*task.train, *task.dev, *task.test]
    assert len(rows) == 30
    assert all(row.choices == (f" Zeile {row.text.removeprefix('line ')}",) for row in rows)
    assert set(rows[0].fields) == {"en", "text"}


@pytest.mark.parametrize(
    ("en", "de", "said", "where"),
    [
        ("a\nb\n", "x\n", "different numbers of lines: en 2, de 1", "{en,de}.txt"),
        ("a\n\nc", "x\ny\nz", "nothing in en", "{en,de}.txt, line 2"),
        ("a", None, "no such file", "t.de.txt"),
    ],
)
def test_files_that_are_not_aligned(tmp_path: Path, en: str, de: str | None, said: str, where: str) -> None:
    (tmp_path / "t.en.txt").write_text(en)
    if de is not None:
        (tmp_path / "t.de.txt").write_text(de)
    with pytest.raises(Unavailable, match=said) as caught:
        tables.read(f"file:{tmp_path}/t.{{en,de}}.txt")
    assert (caught.value.where or "").endswith(where)


@pytest.mark.parametrize(
    "document",
    [
        [{"a": 1}, {"a": 2}],
        {"metadata": {"n": 2}, "examples": {"1": {"a": 1}, "2": {"a": 2}}},
        {"data": [{"a": 1}, {"a": 2}]},
        {"x": {"a": 1}, "y": {"a": 2}},
    ],
)
def test_json_of_rows(tmp_path: Path, document: Any) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(document))
    found = tables.read(f"file:{file}")
    assert found.rows == [{"a": 1}, {"a": 2}]
    assert found.place(1).endswith("rows.json, row 2")


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[1]", "not rows of JSON"), ("7", "not rows of JSON")])
def test_json_of_something_else(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(Unavailable, match=said):
        tables.read(f"file:{file}")


def test_the_shared_files_of_free_answers_load(shared_data: Path) -> None:
    folder = shared_data / "instructions" / "antonyms"
    task = load_task("x", free(train=f"file:{folder}/induce.json", test=f"file:{folder}/execute.json", text_column="input",
                               answer_column="output", template="{input}:"), 0)  # fmt: skip
    assert len(task.test) == 100
    assert task.test[0].choices == (" unfortunate",)
    pairs = f"file:{shared_data}/generation/multi30k-test2016.{{en,de}}.txt"
    captions = load_task("x", free(test=pairs, text_column="en", answer_column="de", template="{en}:"), 0)
    assert sum(sizes(captions)) == 1000
