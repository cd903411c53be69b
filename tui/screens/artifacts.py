"""Every measured artifact of a model, over all runs, and which ones no other beats: pictures, a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from engine import archive, figures, runs
from engine.archive import Measured
from tui import actions
from tui.screens.tables import TableDialog
from tui.widgets.columns import Column
from tui.widgets.frontview import Artifacts, FrontView
from tui.widgets.table import LiveTable


def _front(good: bool) -> Text:
    return Text("● best", "green") if good else Text("· beaten", "bright_black")


COLUMNS = (
    Column("good", "", 8, _front),
    Column("format", "format", 12, least=52),
    Column("bytes", "size", 8, figures.size, numeric=True),
    Column("perplexity", "perpl.", 7, figures.number, numeric=True),
    Column("decode", "tok/s", 6, lambda value: figures.number(value, 1), numeric=True, least=60),
    Column("run", "run", 26, least=120, keep="end"),
    Column("steps", "steps"),
)


class ArtifactsScreen(TableDialog[runs.Run]):
    """Answers the run whose artifact was chosen. `more` artifacts were measured on other text and are not shown."""

    scope: ClassVar[str] = "artifacts"
    BINDINGS = actions.bindings("artifacts")

    def __init__(self, model: str, artifacts: Artifacts, more: int = 0) -> None:
        super().__init__()
        self.more = more
        self.title_of = f"Artifacts of {model.rsplit('/', 1)[-1]}"
        self.artifacts = {str(Path(one.run, one.path)): (one, good) for one, good in artifacts}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog whole"):
            yield FrontView()
            yield LiveTable(COLUMNS, widget_id="artifacts")
            yield self.filter_line()
            yield Static(self._said(), id="front-said")

    def _said(self) -> Text:
        measured = [one for one, _ in self.artifacts.values()]
        best = sum(good for _, good in self.artifacts.values())
        text = f"● {best} of {len(measured)}: the others are nowhere better than one of them and worse in something. ◆ marked. "
        return Text(f"{text}All {archive.on_text(measured, self.more)}", "bright_black")

    def on_mount(self) -> None:
        self.target.show({key: _row(*pair) for key, pair in self.artifacts.items()})
        self._draw()

    def _draw(self) -> None:
        marked = self.artifacts.get(self.target.selected or "")
        self.query_one(FrontView).show(list(self.artifacts.values()), marked[0] if marked else None)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._draw()

    def do_open(self) -> None:
        if key := self.target.selected:
            self.dismiss(runs.Run(Path(self.artifacts[key][0].run)))


def _row(artifact: Measured, good: bool) -> dict[str, Any]:
    return {
        "good": good, "format": artifact.format, "bytes": artifact.bytes, "perplexity": artifact.perplexity,
        "decode": artifact.decode, "run": Path(artifact.run).name, "steps": artifact.steps,
    }  # fmt: skip
