"""The files of a run's folder: read one that is text, copy a path."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical

from engine import figures
from engine.runs import Run
from tui import actions
from tui.screens.dialogs import Reader, printed
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

    scope: ClassVar[str] = "files"
    BINDINGS = actions.bindings("files")

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.folder, self.title_of = run.path, f"Files of {run.name}"

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield LiveTable(COLUMNS, widget_id="files")
            yield self.filter_line()

    def on_mount(self) -> None:
        self.load()

    @work(group="files", exclusive=True)
    async def load(self) -> None:
        found = await asyncio.to_thread(rows, self.folder)
        if len(found) == MOST:
            self.title_of = f"The first {MOST} files of {self.folder.name}"
            self.name_filter(self.target.filter_text)
        self.target.show(found)
        self.show_keys()

    @property
    def _marked(self) -> Path:
        return self.folder / (self.target.selected or "")

    def do_open(self) -> None:
        try:
            text = readable(self._marked)
        except OSError as error:
            self.notify(f"cannot read: {error.strerror}", severity="warning", timeout=3, markup=False)
            return
        if text is None:
            self.notify(self.keys.text("not a text: {copy} copies its path"), timeout=3)
        else:
            self.app.push_screen(Reader(self._marked.name, printed(text)))

    def copied(self) -> str:
        return str(self._marked) if self.target.selected else ""


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """One row a file below the folder, its own first; what begins with a dot is left out, and what goes meanwhile."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            with suppress(OSError):
                about, name = file.stat(), str(file.relative_to(folder))
                found[name] = {"file": name, "bytes": about.st_size, "changed": about.st_mtime}
    return dict(islice(found.items(), MOST))


def readable(file: Path) -> str | None:
    """The end of a text file, None for what is no text."""
    with file.open("rb") as handle:
        if b"\0" in handle.read(4096):
            return None
        size = file.stat().st_size
        handle.seek(max(0, size - READ))
        text = handle.read(READ).decode("utf-8", "replace")
    if size <= READ:
        return text
    _, _, whole = text.partition("\n")  # lines, where there are any
    return f"… the last {figures.size(READ)} of {figures.size(size)}\n{whole or text}"
