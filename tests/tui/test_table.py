"""The live table: only what changed is rewritten, order, filter, and what fits."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult

from tui.widgets.table import Column, LiveTable

COLUMNS = (
    Column("name", "name"),
    Column("size", "size", 6, numeric=True),
    Column("error", "error", 8, lambda v: f"{v:.2f}", numeric=True),
    Column("extra", "extra", 10, least=60),
)
ROWS: dict[str, dict[str, Any]] = {
    "a": {"name": "alpha", "size": 3, "error": 0.5, "extra": "x"},
    "b": {"name": "beta", "size": 1, "error": None, "extra": "y"},
    "c": {"name": "gamma", "size": 2, "error": 0.1, "extra": "z"},
}


class TableApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LiveTable(COLUMNS)


async def test_cells_are_rewritten_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)) as pilot:
        table = app.query_one(LiveTable)
        table.show(ROWS)
        await pilot.pause()
        written: list[tuple[Any, Any]] = []
        original = table.update_cell
        monkeypatch.setattr(table, "update_cell", lambda r, c, v: (written.append((r, c)), original(r, c, v)))
        table.show({**ROWS, "b": {**ROWS["b"], "error": 0.3}})
        assert written == [("b", "error")]
        assert str(table.get_cell("b", "error")) == "0.30"
        table.show({**ROWS, "d": ROWS["a"]})
        assert table.order == ["a", "b", "c", "d"]
        table.show({"a": ROWS["a"]})
        assert table.order == ["a"]


async def test_sorting_goes_through_the_columns_and_keeps_the_unknown_last() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)):
        table = app.query_one(LiveTable)
        table.show(ROWS)
        table.sort_next()
        assert (table.sort_key, table.order) == ("name", ["a", "b", "c"])
        table.sort_next()
        assert (table.sort_key, table.order) == ("size", ["a", "c", "b"])
        assert "▼" in str(table.ordered_columns[1].label)
        assert "underline" in str(table.ordered_columns[1].label.style)
        table.sort_next()
        assert table.order == ["a", "c", "b"]  # None last
        table.sort_other_way()
        assert table.order == ["c", "a", "b"]  # and last in the other direction too
        table.show({**ROWS, "b": {**ROWS["b"], "error": 0.01}})
        assert table.order == ["b", "c", "a"]  # stays sorted while values arrive


async def test_the_cursor_stays_on_its_row() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)):
        table = app.query_one(LiveTable)
        table.show(ROWS)
        table.sort_next()
        table.sort_next()
        table.select("c")
        table.show({**ROWS, "b": {**ROWS["b"], "size": 99}})
        assert table.order == ["b", "a", "c"]
        assert table.selected == "c"


async def test_filtering_finds_every_word_in_any_column() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)):
        table = app.query_one(LiveTable)
        table.show(ROWS)
        table.filter_by("A z")
        assert table.order == ["c"]
        table.show({**ROWS, "d": {**ROWS["a"], "extra": "zz"}})
        assert table.order == ["c", "d"]
        table.filter_by("")
        assert table.order == ["a", "b", "c", "d"]


async def test_columns_that_do_not_fit_are_left_out() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)) as pilot:
        table = app.query_one(LiveTable)
        table.show(ROWS)
        assert [c.key.value for c in table.ordered_columns] == ["name", "size", "error", "extra"]
        table.select("b")
        await pilot.resize_terminal(50, 20)
        await pilot.pause()
        assert [c.key.value for c in table.ordered_columns] == ["name", "size", "error"]
        assert table.virtual_size.width <= 50
        assert table.selected == "b"
