"""A table that is kept up to date cell by cell, sorted by any column, filtered, and fitted to its width.

The caller hands over all rows as raw values each time; what changed is found here. Knows nothing of runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from rich.text import Text
from textual import events
from textual.geometry import Region
from textual.widgets import DataTable

from tui.widgets.columns import Column, fitting
from tui.widgets.scrolling import Scrolled
from tui.widgets.states import elide

Row = Mapping[str, Any]
REBUILD = 24


class Cell(Text):
    """A shown value that remembers its row, for sorting."""

    row: str = ""


class LiveTable(DataTable[Text], Scrolled, inherit_bindings=False):
    """The table. `selected` is the key of the row under the cursor."""

    def __init__(self, columns: Sequence[Column], *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id, cursor_type="row", zebra_stripes=False)
        self._all_columns = columns
        self._shown_columns: list[Column] = []
        self._source: dict[str, Row] = {}
        self._shown: dict[str, Row] = {}
        self._flexible = 0
        self._awaited: str | None = None
        self.sort_key: str | None = None
        self.descending = False
        self.filter_text = ""

    _held = False
    """whether cells are being rewritten"""

    @property
    def selected(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    @property
    def order(self) -> list[str]:
        """The keys of the shown rows, from top to bottom."""
        return [str(row.key.value) for row in self.ordered_rows]

    def show(self, rows: Mapping[str, Row]) -> None:
        """Makes the table show `rows`; only what differs is touched."""
        self._source = dict(rows)
        self._fit(self.size.width)
        self._sync()

    def select(self, key: str) -> None:
        """Moves the cursor to a row, where it is shown; in a table without a place yet, when it gets one."""
        self._awaited = None if self._shown_columns else key
        if key in self._shown:
            self.move_cursor(row=self.get_row_index(key), animate=False)

    def filter_by(self, text: str) -> None:
        """Shows only the rows that contain every word of `text`."""
        self.filter_text = text
        self._sync()

    def sort_next(self) -> str:
        """Sorts by the next column, after the last one by none. Returns what it is sorted by, in words."""
        keys = [None, *(column.key for column in self._shown_columns if column.sortable)]
        at = keys.index(self.sort_key) if self.sort_key in keys else 0  # a narrower pane may hide the sorted column
        self.sort_key = keys[(at + 1) % len(keys)]
        column = self._column(self.sort_key)
        self.descending = bool(column and column.numeric)
        return self._sorted()

    def sort_other_way(self) -> str:
        self.descending = not self.descending
        return self._sorted()

    def fixed(self) -> str | None:
        """Why the order has no other way (a text of `Keys`), None where it has."""
        return None if self.sort_key else "the rows are in their natural order: {sort} sorts them"

    def on_resize(self, event: events.Resize) -> None:
        self._fit(event.size.width)

    def _sorted(self) -> str:
        self._relabel()
        self._resort()
        self.move_cursor(row=0, animate=False)
        column = self._column(self.sort_key)
        return f"{column.label}, {'largest' if self.descending else 'smallest'} first" if column else "natural order"

    def _column(self, key: str | None) -> Column | None:
        return next((column for column in self._all_columns if column.key == key), None)

    def _fit(self, width: int) -> None:
        """Chooses the columns for `width` and gives the flexible one the rest."""
        if not width:
            return
        fits = fitting([c for c in self._all_columns if self._has_values(c)], width)
        if fits == (self._shown_columns, self._flexible):
            return
        self._shown_columns, self._flexible = fits
        key, self._awaited = self.selected or self._awaited, None
        self.clear(columns=True)
        for column in self._shown_columns:
            self.add_column(self._label(column), key=column.key, width=column.width or self._flexible)
        self._shown = {}
        self._sync()
        if key:
            self.select(key)

    def _has_values(self, column: Column) -> bool:
        return not column.optional or any(row.get(column.key) is not None for row in self._source.values())

    def _label(self, column: Column) -> Text:
        if column.key != self.sort_key:
            return Text(column.label, justify="right" if column.numeric else "left", no_wrap=True)
        arrow = "▼" if self.descending else "▲"
        return Text(f"{column.label}{arrow}", "underline", justify="right" if column.numeric else "left", no_wrap=True)

    def _relabel(self) -> None:
        for column, shown in zip(self._shown_columns, self.ordered_columns, strict=True):
            shown.label = self._label(column)
        self._update_count += 1
        self.refresh()

    def _sync(self) -> None:
        if not self._shown_columns:
            return
        wanted = {key: row for key, row in self._source.items() if self._matches(key, row)}
        gone = [key for key in self._shown if key not in wanted]
        new = [key for key in wanted if key not in self._shown]
        selected = self.selected
        if len(gone) > REBUILD:
            self.clear()
            gone, new, self._shown = [], list(wanted), {}
        for key in gone:
            self.remove_row(key)
        changed = self._update(wanted)
        for key in new:
            self.add_row(*(self._cell(key, wanted[key], column) for column in self._shown_columns), key=key)
        self._shown = wanted
        moved = self.sort_key is None and self.order != list(wanted)
        if gone or new or moved or self.sort_key in changed:
            self._resort(selected)

    def _update(self, wanted: Mapping[str, Row]) -> set[str]:
        """Rewrites the cells whose value changed. Returns the columns concerned."""
        changed, rows = set(), []
        self._held = True
        for key, old in self._shown.items():
            if (row := wanted.get(key)) is None or row == old:
                continue
            rows.append(key)
            for column in self._shown_columns:
                if row.get(column.key) != old.get(column.key):
                    self.update_cell(key, column.key, self._cell(key, row, column))
                    changed.add(column.key)
        self._held = False
        for key in rows:
            self.refresh_row(self.get_row_index(key))
        return changed

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Every changed cell asks for the whole table: while cells are rewritten that waits, and the rows are redrawn."""
        if self._held and not regions:
            return self
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _cell(self, key: str, row: Row, column: Column) -> Cell:
        value = row.get(column.key)
        shown = "-" if value is None else column.show(value)
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        if isinstance(shown, Text):
            cell = Cell(shown.plain, shown.style, justify=justify, spans=list(shown.spans))
        else:
            cell = Cell(elide(shown, column.width or self._flexible, column.keep), justify=justify)
        cell.no_wrap, cell.overflow, cell.row = True, "ellipsis", key
        if value is None:
            cell.stylize("bright_black")
        return cell

    def _matches(self, key: str, row: Row) -> bool:
        if not self.filter_text:
            return True
        text = " ".join([key, *map(str, row.values())]).lower()
        return all(word in text for word in self.filter_text.lower().split())

    def _resort(self, selected: str | None = None) -> None:
        """Puts the rows in order and keeps the cursor on its row."""
        selected = selected or self.selected
        if not self._shown:
            return
        ranks = {key: rank for rank, key in enumerate(self._ranked())}
        self.sort(self._shown_columns[0].key, key=lambda cell: ranks[cell.row])
        if selected in self._shown and self.get_row_index(selected) != self.cursor_row:
            self.move_cursor(row=self.get_row_index(selected), animate=False)

    def _ranked(self) -> list[str]:
        keys = list(self._shown)
        if self.sort_key is None:
            return keys
        values: dict[str, Any] = {key: self._shown[key].get(self.sort_key) for key in keys}
        known = [key for key in keys if values[key] is not None]
        known.sort(key=lambda key: _rank(values[key]), reverse=self.descending)
        return known + [key for key in keys if values[key] is None]


def _rank(value: Any) -> Any:
    """What a value is sorted by: itself, and text by the numbers in it, so that 10.q_proj follows 9.q_proj."""
    if not isinstance(value, str):
        return value
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", value.lower())]
