"""The list of runs: state, what each is doing or waits for, age; enter opens one, x stops one or takes it out of the queue,
K and J move it there.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from engine import figures, queueing, runs
from engine.errors import EngineError
from tui import says
from tui.follow import Glance, glance
from tui.screens.dialogs import Reader
from tui.screens.tables import TableDialog
from tui.widgets.columns import Column
from tui.widgets.states import mark
from tui.widgets.table import LiveTable

MOST = 200
EVERY = 2.0
KEYS = "enter open · c compare · x cancel · K J queue · y copy · esc close"
COLUMNS = (
    Column("status", "state", 13, mark),
    Column("age", "age", 5, figures.age, numeric=True),
    Column("run", "run"),
    Column("doing", "at", 18, least=60),
)


class RunsDialog(TableDialog[runs.Run]):
    """Answers the run that was chosen."""

    BINDINGS = [
        Binding("x", "cancel"),
        Binding("c", "compare"),
        Binding("K,shift+up", "queue(-1)"),
        Binding("J,shift+down", "queue(1)"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._taken: str | None = None
        """the run that the next one is compared with"""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as frame:
            frame.border_title, frame.border_subtitle = "Runs", KEYS
            yield Static("reading runs…", id="runs-empty")
            yield LiveTable(COLUMNS, widget_id="runs-table")

    def on_mount(self) -> None:
        self.table.focus()
        self.load()
        self.set_interval(EVERY, self.load)

    @work(group="runs", exclusive=True)
    async def load(self) -> None:
        found = await asyncio.to_thread(lambda: [glance(run) for run in runs.list_runs()[:MOST]])
        empty = self.query_one("#runs-empty", Static)
        empty.display, self.table.display = not found, bool(found)
        empty.update("there are no runs yet: esc, then 4 and enter start one")
        self.table.show({str(g.run.path): _row(g) for g in found})

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.dismiss(runs.Run(Path(str(event.row_key.value))))

    def action_compare(self) -> None:
        """Takes the marked run; with another one taken before, both side by side."""
        key = self.table.selected
        if key is None:
            return
        if self._taken in (None, key):
            self._taken = None if self._taken else key
            said = f"c on another run compares it with {Path(key).name}" if self._taken else KEYS
            self.query_one(".dialog").border_subtitle = said
            return
        try:
            text = says.comparison([runs.Run(Path(path)) for path in (str(self._taken), key)])
        except EngineError as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self.app.push_screen(Reader("Compare", Text.from_ansi(text, no_wrap=True)))

    def action_cancel(self) -> None:
        """Asks the marked run to stop, once; opened, it can be told more sternly."""
        key = self.table.selected
        if key is None:
            return
        try:
            runs.send_signal(runs.Run(Path(key)), signal.SIGINT)
        except (EngineError, OSError) as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self.notify(f"asked {Path(key).name} to stop", markup=False)

    def action_queue(self, by: int) -> None:
        """Moves the marked run one place forward (-1) or back (1) in the queue."""
        key = self.table.selected
        if key is None:
            return
        run = runs.Run(Path(key))
        try:
            other = queueing.move(run, by)
        except (EngineError, OSError) as error:
            self.notify(str(error), severity="warning", markup=False)
            return
        end = "first" if by < 0 else "last"
        said = f"{'before' if by < 0 else 'after'} {other.name}" if other else f"it is the {end} in the queue"
        self.notify(said, timeout=3, markup=False)
        self.load()


def _row(seen: Glance) -> dict[str, Any]:
    age = max(0.0, time.time() - seen.updated)
    return {"status": seen.status, "age": age, "run": seen.run.name, "doing": seen.doing}
