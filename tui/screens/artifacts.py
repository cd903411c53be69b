"""Every measured artifact of a model, over all runs, and which ones no other beats: pictures, a table; enter opens the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Static

from engine import figures, runs
from engine.archive import Measured
from tui.screens.dialogs import CLOSE
from tui.widgets.columns import Column
from tui.widgets.frontview import Artifacts, FrontView
from tui.widgets.table import LiveTable


def _front(good: bool) -> Text:
    return Text("● best", "green") if good else Text("· beaten", "bright_black")


COLUMNS = (
    Column("good", "", 8, _front),
    Column("format", "format", 12),
    Column("bytes", "size", 8, figures.size, numeric=True),
    Column("perplexity", "perpl.", 7, figures.number, numeric=True),
    Column("decode", "tok/s", 6, lambda value: figures.number(value, 1), numeric=True),
    Column("run", "run", 26, least=120, keep="end"),
    Column("steps", "steps"),
)


class ArtifactsScreen(ModalScreen[runs.Run | None], inherit_bindings=False):
    """Answers the run whose artifact was chosen."""

    BINDINGS = [
        CLOSE,
        Binding("q", "close"),
        Binding("j", "move('cursor_down')"),
        Binding("k", "move('cursor_up')"),
        Binding("g", "jump(0)"),
        Binding("G", "jump(-1)"),
        Binding("s", "sort"),
        Binding("y", "copy"),
    ]

    def __init__(self, model: str, artifacts: Artifacts) -> None:
        super().__init__()
        self.model = model
        self.artifacts = {str(Path(one.run, one.path)): (one, good) for one, good in artifacts}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog whole") as frame:
            frame.border_title = f"Artifacts of {self.model.rsplit('/', 1)[-1]}"
            frame.border_subtitle = "enter open the run · y copy the path · s sort · esc close"
            yield FrontView()
            yield LiveTable(COLUMNS, widget_id="artifacts")
            yield Static(self._said(), id="front-said")

    def _said(self) -> Text:
        measured = [one for one, _ in self.artifacts.values()]
        best = sum(good for _, good in self.artifacts.values())
        text = f"● {best} of {len(measured)}: no other is as good in size, perplexity and speed and better in one. ◆ marked. "
        return Text(f"{text}Measured on {measured[-1].text}", "bright_black")

    def on_mount(self) -> None:
        self.query_one(LiveTable).show({key: _row(*pair) for key, pair in self.artifacts.items()})
        self.query_one(LiveTable).focus()
        self._draw()

    def _draw(self) -> None:
        marked = self.artifacts.get(self.query_one(LiveTable).selected or "")
        self.query_one(FrontView).show(list(self.artifacts.values()), marked[0] if marked else None)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._draw()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.dismiss(runs.Run(Path(self.artifacts[str(event.row_key.value)][0].run)))

    def action_move(self, action: str) -> None:
        getattr(self.query_one(LiveTable), f"action_{action}")()

    def action_jump(self, index: int) -> None:
        table = self.query_one(LiveTable)
        table.move_cursor(row=index % max(1, table.row_count), animate=False)

    def action_sort(self) -> None:
        self.query_one(LiveTable).sort_next()

    def action_copy(self) -> None:
        key = self.query_one(LiveTable).selected or ""
        self.app.copy_to_clipboard(key)
        self.notify(f"copied: {key}", timeout=2, markup=False)

    def action_close(self) -> None:
        self.dismiss(None)


def _row(artifact: Measured, good: bool) -> dict[str, Any]:
    return {
        "good": good, "format": artifact.format, "bytes": artifact.bytes, "perplexity": artifact.perplexity,
        "decode": artifact.decode, "run": Path(artifact.run).name, "steps": artifact.steps,
    }  # fmt: skip
