"""Asks for a model; a key walks folders, of which only what can be a model is shown, until one is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical

from engine import figures
from tui import actions
from tui.screens.dialogs import Ask
from tui.screens.tables import TableDialog
from tui.threads import aside
from tui.widgets.columns import Column
from tui.widgets.states import elide
from tui.widgets.table import LiveTable

MOST = 1000
UP, HERE = "..", "."
FILES = (".gguf", ".safetensors")
COLUMNS = (
    Column("name", "name", room=24),
    Column("kind", "what", 12),
    Column("bytes", "size", 8, figures.size, numeric=True),
    Column("changed", "changed", 16, lambda when: f"{datetime.fromtimestamp(when):%Y-%m-%d %H:%M}", least=90),
)
Row = dict[str, Any]


class AskModel(Ask):
    """A line for a model, with a key to look for one in folders."""

    scope: ClassVar[str] = "model_line"
    BINDINGS = actions.bindings("model_line")

    def do_browse(self) -> None:
        self.app.push_screen(PickScreen(*start(self.target.value)), self._picked)

    def _picked(self, source: str | None) -> None:
        if source:
            self.call_later(self._answer, source)  # when the folders have left the screen

    def _answer(self, source: str) -> None:
        self.dismiss(source)


class PickScreen(TableDialog[str]):
    """A folder with the folders and models in it; answers with the path that was chosen."""

    scope: ClassVar[str] = "folders"
    BINDINGS = actions.bindings("folders")

    def __init__(self, folder: Path, marked: str = "") -> None:
        super().__init__()
        self.folder, self._marked, self._hidden = folder, marked, False
        self._rows: dict[str, Row] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield LiveTable(COLUMNS, widget_id="picks")
            yield self.filter_line()

    def on_mount(self) -> None:
        self.go(self.folder, self._marked)

    @work(group="pick", exclusive=True)
    async def go(self, folder: Path, marked: str = "") -> None:
        """Shows a folder with the cursor on what is `marked`; one that cannot be read is said and not gone to."""
        try:
            found = await aside(rows, folder, self._hidden)
        except OSError as error:
            message = f"cannot read {folder}: {error.strerror or error}"
            self.notify(message, severity="warning", timeout=4, markup=False)
            return
        self.folder, self._rows = folder, found
        more = f" · the first {MOST}" if len(found) >= MOST else ""
        self.title_of = elide(str(folder), max(20, self.size.width - 16 - len(more)), "end") + more
        self.unfilter()
        self.name_filter("")
        self.target.show(found)
        self.show_keys()
        first = next((name for name in found if name != UP), UP)
        self.target.select(marked if marked in found else first)

    def do_open(self) -> None:
        name = self.target.selected or ""
        if name == UP:
            self.do_leave_folder()
        elif self._rows[name]["kind"] == "folder":
            self.go(self.folder / name)
        else:
            self.dismiss(str(self.folder / name))

    def do_enter_folder(self) -> None:
        name = self.target.selected or HERE
        if name == UP:
            self.do_leave_folder()
        elif name != HERE and (self.folder / name).is_dir():
            self.go(self.folder / name)

    def do_leave_folder(self) -> None:
        self.go(self.folder.parent, self.folder.name)

    def do_hidden(self) -> None:
        self._hidden = not self._hidden
        self.go(self.folder, self.target.selected or "")

    def copied(self) -> str:
        return str(self.folder / (self.target.selected or ""))


def start(typed: str) -> tuple[Path, str]:
    """The folder to begin in for what was typed, and the name in it to begin on: the nearest that is there."""
    path = Path(typed or HERE).expanduser().absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if path.is_dir() and not is_model(path):
        return path, ""
    return path.parent, path.name


def is_model(folder: Path) -> bool:
    """Whether a folder is one as transformers has it, at the first look."""
    return (folder / "config.json").is_file() and any(file.suffix in FILES for file in folder.iterdir())


def rows(folder: Path, hidden: bool) -> dict[str, Row]:
    """What a folder has: itself where it is a model, the way up, folders, model files. Raises OSError."""
    found = {UP: _row(UP, "folder", folder.parent)} if folder != folder.parent else {}
    if is_model(folder):
        found[HERE] = _row("this folder", "model", folder)
    shown = (path for path in folder.iterdir() if hidden or not path.name.startswith("."))
    seen = sorted(shown, key=lambda path: path.name.lower())
    return found | dict(islice(_told(seen), MOST))


def _told(paths: list[Path]) -> Iterator[tuple[str, Row]]:
    """The folders, then the files that can be a model; what goes meanwhile, or may not be looked at, is left out."""
    for path in paths:
        with suppress(OSError):
            if path.is_dir():
                yield path.name, _row(f"{path.name}/", "model" if is_model(path) else "folder", path)
    for path in paths:
        with suppress(OSError):
            if path.suffix in FILES and path.is_file():
                yield path.name, _row(path.name, path.suffix[1:], path)


def _row(name: str, kind: str, path: Path) -> Row:
    about = path.stat()
    return {"name": name, "kind": kind, "bytes": about.st_size if path.is_file() else None, "changed": about.st_mtime}
