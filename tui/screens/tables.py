"""A dialog around one table: open the marked row, sort, filter, copy, close."""

from __future__ import annotations

from textual.widgets import DataTable

from tui.screens.dialogs import Dialog
from tui.screens.keyed import Answer
from tui.widgets.table import LiveTable


class TableDialog(Dialog[Answer]):
    """A dialog with a LiveTable and a line to filter it by."""

    @property
    def target(self) -> LiveTable:
        return self.query_one(LiveTable)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.do_open()

    def do_open(self) -> None:
        """Opens the marked row."""

    def why_not(self, name: str) -> str | None:
        if name in ("open", "sort", "reverse", "filter") and not (self.target.row_count or self.target.filter_text):
            return "there is nothing here"
        return super().why_not(name)

    def do_back(self) -> None:
        if not self.unfilter():
            super().do_back()
