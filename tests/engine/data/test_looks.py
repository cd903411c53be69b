"""Looks at test splits: one a run, counted over runs, by rows and not by names; said, and never in the way."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.prompting import at_work, toy

from engine import events as ev
from engine import figures, report
from engine.data import looks
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts import select
from engine.prompts.options import SelectPromptOptions
from engine.state import RunState


def looked(folder: Path, task: Task, told: list[ev.Event]) -> int:
    at_work(folder, None, told, task).look(task)
    return [event for event in told if isinstance(event, ev.SplitTested)][-1].look


def test_every_run_counts_once() -> None:
    rows = toy().test
    numbers = [looks.look(rows, run, "toy", "m").number for run in ("a", "a", "b", "a", "c", "b")]
    assert numbers == [1, 1, 2, 1, 3, 2]
    assert looks.look(toy(seed=1).test, "d", "toy", "m") == (1, 0)


def test_the_rows_count_and_not_their_order_their_task_or_its_words() -> None:
    rows = toy().test
    other = [Row(row.text, row.fields, (" false", " true"), row.gold) for row in reversed(rows)]
    assert looks.look(rows, "a", "toy", "m") == (1, 0)
    assert looks.look(other, "b", "renamed", "m") == (2, 30)


def test_a_row_less_is_no_fresh_split() -> None:
    rows, fresh = toy().test, toy(seed=1).test
    assert looks.look(rows, "a", "toy", "m") == (1, 0)
    assert looks.look(rows[:-1], "b", "toy", "m") == (2, 29)
    assert looks.look([*rows[-1:], *fresh], "c", "toy", "m") == (2, 1)
    assert looks.look(rows, "d", "toy", "m") == (3, 30), "no row was seen by more than two"
    assert looks.look(rows[:-1], "b", "toy", "m") == (2, 29), "as it was"


def test_a_run_that_looks_at_two_splits_with_common_rows_looks_once() -> None:
    rows = toy().test
    assert looks.look(rows[:20], "a", "one", "m") == (1, 0)
    assert looks.look(rows[10:], "a", "two", "m") == (1, 0)
    assert looks.look(rows, "b", "toy", "m") == (2, 30)


def test_a_file_of_an_older_version_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TUI_STATE", str(tmp_path))
    rows = toy().test
    looks.look(rows, "a", "toy", "m")
    with sqlite3.connect(tmp_path / "looks.sqlite") as connection:
        connection.execute("DROP TABLE splits")
    connection.close()
    assert looks.look(rows, "b", "toy", "m") == (2, 30)
    assert looks.look(rows[1:], "c", "toy", "m") == (3, 29)


def test_runs_that_look_at_once_are_counted_one_by_one() -> None:
    rows, together = toy().test, threading.Barrier(8)

    def looking(run: int) -> int:
        together.wait()
        return looks.look(rows[run % 2 :], str(run), "toy", "m").number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(looking, range(8))) == list(range(1, 9))


def test_a_run_says_from_the_second_on_and_a_resumed_one_nothing_new(tmp_path: Path) -> None:
    told = list[ev.Event]()
    assert looked(tmp_path / "one", toy(), told) == 1
    assert [event for event in told if isinstance(event, ev.Log)] == []
    assert looked(tmp_path / "two", toy(), told) == 2
    assert looked(tmp_path / "one", toy(), told) == 1, "the same run, resumed"
    assert [event.message for event in told if isinstance(event, ev.Log)] == [figures.look("toy", 2, 30, 30)]


def test_the_steps_of_a_run_are_one_look_and_the_report_tells_of_earlier_ones(tmp_path: Path) -> None:
    step = SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?"], budget=20, control=True)
    for name, number in (("one", 1), ("two", 2), ("three", 3)):
        told = list[ev.Event]()
        made = at_work(tmp_path / name, step, told)
        for _ in range(2):
            select.run(made, step)
        (event,) = [event for event in told if isinstance(event, ev.SplitTested)]
        assert (event.look, event.rows) == (number, 30)
        state = RunState.of(told)
        assert report.result(state)["tested"] == [
            {"task": "toy", "rows": 30, "look": number, "seen": 30 * (number > 1)}
        ]
        words = "Third look at the test split of toy: its figures are no longer untouched, 30 of its 30 rows were seen before."
        assert (words in report.markdown(state)) == (number == 3)


def test_a_folder_that_cannot_be_used_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPRESS_TUI_STATE", str(tmp_path / "file"))
    told = list[ev.Event]()
    made = at_work(tmp_path / "run", None, told)
    for _ in range(2):
        made.look(toy())
    assert [type(event) for event in told] == [ev.Log, ev.SplitTested]
    monkeypatch.setenv("COMPRESS_TUI_STATE", str(tmp_path))
    (tmp_path / "looks.sqlite").write_text("no database, but long enough to be taken for one " * 9)
    assert looked(tmp_path / "other", replace(toy(), name="other"), told) == 0


def test_many_looks_are_numbered() -> None:
    assert figures.look("t", 1) == "first look at the test split of t"
    assert figures.look("t", 10).startswith("tenth look")
    assert figures.look("t", 11) == "look number 11 at the test split of t: its figures are no longer untouched"
