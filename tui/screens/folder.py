"""The files of a run's folder; enter reads one that is text, y copies its path."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable

from engine import figures
from engine.runs import Run
from tui.screens.dialogs import Reader
from tui.screens.tables import TableDialog
from tui.widgets.columns import Column
from tui.widgets.table import LiveTable

MOST = 1000
READ = 1 << 17
"""bytes of a text that are shown, the last ones of a longer one"""
COLUMNS = (
    Column("file", "file", keep="end"),
    Column("bytes", "size", 8, figures.size, numeric=True),
    Column("changed", "changed", 16, lambda when: f"{datetime.fromtimestamp(when):%Y-%m-%d %H:%M}", least=90),
)


class FolderScreen(TableDialog[None]):
    """What a run wrote."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.folder = run.path

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as frame:
            frame.border_title = f"Files of {self.folder.name}"
            frame.border_subtitle = "enter read · y copy the path · s sort · esc close"
            yield LiveTable(COLUMNS, widget_id="files")

    def on_mount(self) -> None:
        table = self.table
        table.show(rows(self.folder))
        table.focus()

    @property
    def _marked(self) -> Path:
        return self.folder / (self.table.selected or "")

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        try:
            text = readable(self._marked)
        except OSError as error:
            self.notify(f"cannot read: {error.strerror}", severity="warning", timeout=3, markup=False)
            return
        if text is None:
            self.notify("not a text: y copies its path", timeout=3)
        else:
            self.app.push_screen(Reader(self._marked.name, Text(text)))

    def copied(self) -> str:
        return str(self._marked)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """One row a file below the folder, its own first; names that begin with a dot are left out."""
    found = {}
    for file in sorted(folder.rglob("*"), key=lambda file: (file.parent != folder, file))[:MOST]:
        name = str(file.relative_to(folder))
        if not file.name.startswith(".") and file.is_file():
            about = file.stat()
            found[name] = {"file": name, "bytes": about.st_size, "changed": about.st_mtime}
    return found


def readable(file: Path) -> str | None:
    """The end of a text file, None for what is no text."""
    with file.open("rb") as handle:
        if b"\0" in handle.read(4096):
            return None
        size = file.stat().st_size
        handle.seek(max(0, size - READ))
        text = handle.read(READ).decode("utf-8", "replace")
    return (
        text
        if size <= READ
        else f"… the last {figures.size(READ)} of {figures.size(size)}\n{text.partition(chr(10))[2]}"
    )
