"""The live table: only what changed is rewritten, order, filter, and what fits."""

from __future__ import annotations

from typing import Any

import pytest
from recorded import put_together
from textual.app import App, ComposeResult

from tui.screens import artifacts
from tui.widgets import drafts, examples, formview
from tui.widgets.columns import PADDING, SCROLLBAR, Column, Shown, fitting
from tui.widgets.layers import short_names
from tui.widgets.pane import Pane
from tui.widgets.table import LiveTable

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


async def test_a_row_chosen_before_the_table_has_a_place_is_chosen_when_it_gets_one() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)) as pilot:
        table = LiveTable(COLUMNS)
        table.display = False
        await app.mount(table)
        table.show(ROWS)
        table.select("c")
        await pilot.pause()
        assert table.selected is None
        table.display = True
        await pilot.pause()  # it is laid out
        await pilot.pause()  # and hears of its size
        assert table.selected == "c"


async def test_the_scrollbar_begins_where_the_table_was_scrolled_to() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)) as pilot:
        table = app.query_one(LiveTable)
        await pilot.pause()
        table.show({str(index): ROWS["a"] for index in range(100)})
        await pilot.pause()
        table.show_vertical_scrollbar = False
        table.scroll_y = 81.0
        table.show_vertical_scrollbar = True
        assert table.vertical_scrollbar.position == table.scroll_y == 81


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


async def test_numbers_inside_text_and_behind_text_are_sorted_as_numbers() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 20)):
        table = app.query_one(LiveTable)
        names = ["10.q_proj", "9.q_proj", "1.up_proj", "1.q_proj"]
        sizes = [Shown(5, "5 of 9"), Shown(40, "40 of 90"), Shown(6, "6 of 9"), None]
        table.show({n: {"name": n, "size": s, "error": 0.0, "extra": ""} for n, s in zip(names, sizes, strict=True)})
        table.sort_next()
        assert table.order == ["1.q_proj", "1.up_proj", "9.q_proj", "10.q_proj"]
        table.sort_next()
        assert table.order == ["9.q_proj", "1.up_proj", "10.q_proj", "1.q_proj"]
        assert str(table.get_cell("10.q_proj", "size")) == "5 of 9"
        table.filter_by("40 of")
        assert table.order == ["9.q_proj"]


async def test_an_optional_column_comes_with_its_first_value() -> None:
    class Optional(App[None]):
        def compose(self) -> ComposeResult:
            yield LiveTable((*COLUMNS[:2], Column("plan", "plan", 6, optional=True)))

    app = Optional()
    async with app.run_test(size=(80, 20)):
        table = app.query_one(LiveTable)
        table.show(ROWS)
        table.select("b")
        assert [c.key.value for c in table.ordered_columns] == ["name", "size"]
        table.show({**ROWS, "c": {**ROWS["c"], "plan": 0.5}})
        assert [c.key.value for c in table.ordered_columns] == ["name", "size", "plan"]
        assert str(table.get_cell("a", "plan")) == "-"
        assert table.selected == "b"


@pytest.mark.parametrize("width", range(20, 130, 3))
def test_columns_give_way_so_that_names_can_be_read(width: int) -> None:
    columns = (
        Column("name", "name", room=18), Column("a", "a", 8), Column("b", "b", 8, least=20), Column("c", "c", 8, least=40),
    )  # fmt: skip
    shown, left = fitting(columns, width)
    names = [column.key for column in shown]
    assert names in (["name", "a"], ["name", "a", "b"], ["name", "a", "b", "c"])
    assert left >= 18 or names == ["name", "a"]


def test_names_are_shown_without_what_all_share() -> None:
    assert short_names(["linear.weight"]) == {"linear.weight": "linear"}
    assert short_names(["m.layers.0.q.weight", "m.layers.11.k.weight"]) == {
        "m.layers.0.q.weight": "0.q",
        "m.layers.11.k.weight": "11.k",
    }
    assert short_names(["a.w", "a.w2"]) == {"a.w": "w", "a.w2": "w2"}
    assert short_names([]) == {}


async def test_a_changed_row_is_redrawn_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual._compositor.Compositor.render_update", put_together)
    app, drawn = TableApp(), []
    async with app.run_test(size=(80, 20)) as pilot:
        table = app.query_one(LiveTable)
        table.show(ROWS)
        await pilot.pause()
        display = app._display
        monkeypatch.setattr(app, "_display", lambda s, r: (drawn.extend(getattr(r, "spans", ())), display(s, r))[1])
        table.show({**ROWS, "b": {**ROWS["b"], "error": 0.37}})
        await pilot.pause()
        screen = [strip.text for strip in app.screen._compositor.render_strips()]
        assert "0.37" in screen[2]
        assert {y for y, _, _ in drawn} == {2}


async def test_a_new_title_redraws_the_frame_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class PaneApp(App[None]):
        CSS = "Pane { border: round white; }"

        def compose(self) -> ComposeResult:
            yield Pane(LiveTable(COLUMNS), title="old", widget_id="pane")

    monkeypatch.setattr("textual._compositor.Compositor.render_update", put_together)
    app, drawn = PaneApp(), []
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.pause()
        display = app._display
        monkeypatch.setattr(app, "_display", lambda s, r: (drawn.extend(getattr(r, "spans", ())), display(s, r))[1])
        app.query_one(Pane).say(title="new title")
        await pilot.pause()
        assert "new title" in app.screen._compositor.render_strips()[0].text
        assert {line for line, _, _ in drawn} == {0}
        drawn.clear()
        app.query_one(Pane).say(title="new title")
        await pilot.pause()
        assert drawn == []
        app.query_one(Pane).refresh()
        await pilot.pause()
        assert 80 < sum(right - left for _, left, right in drawn) <= 2 * 80 + 2 * 20


TABLES = {
    "profiles": (drafts.COLUMNS, 36),
    "form": (formview.COLUMNS, 36),
    "examples": (examples.COLUMNS, 46),
    "artifacts": (artifacts.COLUMNS, 46),
}
"""tables of many columns, and the narrowest that they become"""


@pytest.mark.parametrize("name", TABLES)
def test_no_column_is_beyond_the_edge(name: str) -> None:
    columns, narrowest = TABLES[name]
    for width in range(narrowest, 160):
        shown, left = fitting(columns, width)
        assert sum((column.width or left) + PADDING for column in shown) + SCROLLBAR <= width
        assert len({column.key for column in shown}) == len(shown)
