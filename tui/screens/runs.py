"""The list of runs: state, what each is doing or waits for, age; opens one, stops one, moves one in the queue or takes it
out, puts two side by side.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from engine import figures, queueing, runs
from engine.errors import EngineError
from tui import actions, says
from tui.follow import Glance, glance
from tui.screens.dialogs import Reader, printed
from tui.screens.tables import TableDialog
from tui.threads import aside
from tui.widgets.columns import Column
from tui.widgets.states import elide, mark
from tui.widgets.table import LiveTable

MOST = 200
EVERY = 2.0
NO_RUNS = "There are no runs yet: {back}, then {profiles} and {open} start one."
COLUMNS = (
    Column("status", "state", 13, mark),
    Column("age", "age", 5, figures.age, numeric=True),
    Column("run", "run"),
    Column("doing", "at", 18, least=60),
)


def _newest() -> tuple[list[Glance], int]:
    """The newest runs, and how many there are in all."""
    every = runs.list_runs()
    return [glance(run) for run in every[:MOST]], len(every)


class RunsDialog(TableDialog[runs.Run]):
    """Answers the run that was chosen."""

    scope: ClassVar[str] = "runs"
    BINDINGS = actions.bindings("runs")
    title_of = "Runs"

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, runs.Run] = {}
        self._taken: runs.Run | None = None
        """the run that the next one is compared with"""

    @property
    def marked(self) -> runs.Run | None:
        return self._runs.get(self.target.selected or "")

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static("reading runs…", id="runs-empty", markup=False)
            yield LiveTable(COLUMNS, widget_id="runs-table")
            yield self.filter_line()

    def on_mount(self) -> None:
        self.load()
        self.set_interval(EVERY, self.load)

    @work(group="runs", exclusive=True)
    async def load(self) -> None:
        found, number = await asyncio.to_thread(_newest)
        self.title_of = "Runs" if number <= MOST else f"Runs · the newest {MOST} of {number}"
        self.name_filter(self.target.filter_text)
        empty = self.query_one("#runs-empty", Static)
        empty.display, self.target.display = not found, bool(found)
        empty.update(self.keys.text(NO_RUNS))
        self._runs = {g.run.name: g.run for g in found}
        self.target.show({g.run.name: _row(g) for g in found})
        self.show_keys()

    def why_not(self, name: str) -> str | None:
        if name in ("beside", "cancel", "sooner", "later") and self.marked is None:
            return "no run is marked"
        return super().why_not(name)

    def do_open(self) -> None:
        self.dismiss(self.marked)

    def hints(self, width: int) -> str:
        if self._taken:
            return elide(f"{self.keys['beside']} on another run compares it with {self._taken.name}", width)
        return super().hints(width)

    def do_beside(self) -> None:
        """Takes the marked run; with another one taken before, both side by side."""
        if self.marked is None or self._taken in (None, self.marked):
            self._taken = None if self._taken else self.marked
            self.show_keys()
            return
        self._compare([run for run in (self._taken, self.marked) if run])

    @work(group="compare", exclusive=True)
    async def _compare(self, found: list[runs.Run]) -> None:
        try:
            text = await aside(says.comparison, found)
        except EngineError as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self.app.push_screen(Reader("Compare", printed(text)))

    def do_cancel(self) -> None:
        """Asks the marked run to stop, once; opened, it can be told more sternly."""
        run = self.marked
        if run is None:
            return
        try:
            runs.send_signal(run, signal.SIGINT)
        except (EngineError, OSError) as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self.notify(f"asked {run.name} to stop", markup=False)

    def do_sooner(self) -> None:
        self._queue(-1)

    def do_later(self) -> None:
        self._queue(1)

    def _queue(self, by: int) -> None:
        """Moves the marked run one place forward (-1) or back (1) in the queue."""
        run = self.marked
        if run is None:
            return
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
