"""The Run screen: steps, the layer table filling in, chart, figures and log of one run, live or finished."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DataTable, Static

from engine.state import RunState
from tui import actions, says
from tui.blocks import by_block
from tui.follow import Follower
from tui.following import NO_RUN_OPEN
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Reader, printed
from tui.screens.folder import FolderScreen
from tui.screens.panes import WIDE
from tui.usage import rates
from tui.widgets import explain, failures, progress, rail
from tui.widgets.blockview import BlockView
from tui.widgets.chart import RunChart
from tui.widgets.layers import FIGURE_COLUMNS, LAYER_COLUMNS, changed, figure_rows, layer_rows, layers_line
from tui.widgets.line import Line
from tui.widgets.logview import LogView
from tui.widgets.pane import Pane
from tui.widgets.rail import StepRail
from tui.widgets.table import LiveTable

LOADING = "The layers appear when the model is loaded; until then the log says what is done."
QUEUED = "The run waits until those before it have ended, also when the app is left. {runs} lists them, {cancel} takes it out."
NEVER_LOADED = "The run ended before its model was loaded."
NO_FIGURES = "Perplexity, accuracy, size and speed appear here as they are measured, the dense model's first."
NEVER_MEASURED = "The run ended before anything was measured. {resume} goes on with it."
NO_LOG = "What the run has to say appears here; {open} shows what its worker printed."
OUTPUT_LINES = 200
FEW_WORDS, MANY_WORDS, TALL = 3, 6, 30
"""lines of a dead worker's output over the panes, on a low and on a tall screen"""


class RunScreen(WorkScreen):
    """Mode 2."""

    scope: ClassVar[str] = "run"
    needs_run: ClassVar[bool] = True
    BINDINGS = actions.bindings("run")

    def __init__(self) -> None:
        super().__init__()
        self._newest: str | None = None
        self._at: tuple[int | None, str] | None = None

    def compose_body(self) -> Iterator[Widget]:
        yield Line(id="progress")
        yield Static(id="failure")
        with Horizontal(id="columns"):
            yield from self._columns()

    def _columns(self) -> Iterator[Widget]:
        with Vertical(classes="column", id="left"):
            yield Pane(StepRail(id="rail"), title="Steps", widget_id="steps-pane", side=True)
        with Vertical(classes="column", id="centre"):
            table, empty = LiveTable(LAYER_COLUMNS, widget_id="layers"), Static(id="no-layers")
            yield Pane(empty, table, title="Layers", widget_id="layers-pane")
            yield Pane(BlockView(), title="Blocks", widget_id="blocks-pane")
        with Vertical(classes="column", id="right"):
            chart = Pane(RunChart(widget_id="chart"), title="Chart", widget_id="chart-pane")
            chart.say(subtitle=Text(self.keys.text("seconds since the start · {curve} next curve")))
            yield chart
            yield Pane(LiveTable(FIGURE_COLUMNS, widget_id="figures"), title="Figures", widget_id="figures-pane")
            yield Pane(LogView(widget_id="log"), title="Log", widget_id="log-pane")

    def new_run(self, follower: Follower) -> None:
        self.query_one(LogView).reset()
        self.query_one(RunChart).reset()
        self._newest = self._at = None

    def show_state(self, state: RunState) -> None:
        self._show_layers(state)
        self.query_one("#figures", LiveTable).show(figure_rows(state))
        self._explain_empty(state)
        self.query_one(LogView).show(state.log)
        if self.query_one("#chart-pane").display:
            self.query_one(RunChart).show(state)
        self.query_one("#layers-pane", Pane).say(subtitle=layers_line(state))
        blocks = self.query_one("#blocks-pane", Pane)
        if blocks.display:
            blocks.say(subtitle=self.query_one(BlockView).show(state))
        self._show_failure(state)
        self._go_along(state)

    def _explain_empty(self, state: RunState) -> None:
        """What will appear in panes that have nothing yet, once it is read what there is."""
        reading = self.follower is None or self.follower.status == "reading"
        missing = NEVER_MEASURED if state.finished else NO_FIGURES
        self.query_one("#figures-pane", Pane).explain("" if state.metrics or reading else self.keys.text(missing))
        self.query_one("#log-pane", Pane).explain(
            "" if reading else self.query_one(LogView).blank(state.log, self.keys.text(NO_LOG))
        )

    def name_filter(self, text: str) -> None:
        super().name_filter(text)
        if self.follower:
            self._explain_empty(self.follower.state)

    def _go_along(self, state: RunState) -> None:
        """When a step works on blocks or on matrices, brings that pane up, once; what hands chose meanwhile stays."""
        at = (state.current, "blocks" if by_block(state) else "layers")
        if state.status == "empty" or at == self._at or (self._at and state.status != "running"):
            return
        self._at, pane = at, self.query_one(f"#{at[1]}-pane", Pane)
        narrow = self.app.size.width < WIDE  # of the terminal: the panes may not have been laid out yet
        if narrow and pane is not self.active and self.active.id in ("layers-pane", "blocks-pane"):
            self.activate(pane)

    def _show_layers(self, state: RunState) -> None:
        """Fills the table; the cursor goes along with the newest matrix until it is moved by hand."""
        self._show_no_layers(state)
        table = self.query_one("#layers", LiveTable)
        following = table.sort_key is None and table.selected in (None, self._newest)
        table.show(layer_rows(state))
        done = [name for name, layer in state.layers.items() if changed(layer)]
        self._newest = done[-1] if done else next(iter(state.layers), None)
        if following and self._newest and state.status == "running":
            table.select(self._newest)

    def _show_no_layers(self, state: RunState) -> None:
        """Words in the table's place while there are no layers; the keys stay with the pane that has them."""
        table, empty = self.query_one("#layers", LiveTable), self.query_one("#no-layers", Static)
        text = NEVER_LOADED if state.finished else LOADING
        text = self.keys.text(QUEUED) if state.status == "queued" else text
        if text != empty.content:
            empty.update(text)
        if table.display == bool(state.layers):
            return
        if self.focused is table:  # a focused widget that is hidden gives its focus to another pane
            self.set_focus(None)
        table.display, empty.display = bool(state.layers), not state.layers
        if self.active.id == "layers-pane":
            self.call_after_refresh(self.focus_target)

    def show_time(self, state: RunState, now: float) -> None:
        going = self.follower if self.follower and self.follower.going else None
        usage, done = (list(going.usage), list(going.done)) if going else ([], [])
        self.query_one(StepRail).show(state, now, usage, rates(done) if done else [])
        status = self.follower.status if self.follower else "starting"
        self.query_one("#progress", Line).put(progress.line(state, status, now, self.size.width))
        self.query_one(RunChart).show_time(now)

    def why_not(self, name: str) -> str | None:
        follower = self.tui.follower
        if name in ("headless", "artifacts", "folder", "report") and follower is None:
            return self.keys.text(NO_RUN_OPEN)
        if name == "resume":
            if follower is None:
                return self.keys.text(NO_RUN_OPEN)
            if follower.going:
                return "the run is still going"
            return "the run is complete" if follower.state.status == "done" else None
        if name == "open" and self.active.id == "chart-pane":
            return self.keys.text("go to the steps, a row or the log with {next_pane}")
        if name == "open" and self.active.id in ("layers-pane", "figures-pane", "blocks-pane"):
            target = self.active.target()
            return (
                None if isinstance(target, LiveTable) and target.selected is not None else "there is nothing here yet"
            )
        if name == "curve" and (follower is None or not follower.state.history):
            return "there are no curves yet"
        return super().why_not(name)

    def do_open(self) -> None:
        """Explains the selected row, or all steps; in the log: what the worker itself printed."""
        if self.follower and self.active.id == "log-pane":
            text = self.follower.run.log_tail(OUTPUT_LINES) or "The worker has printed nothing."
            self.app.push_screen(Reader(f"worker.log of {self.follower.run.name}", printed(text)))
            return
        if self.follower and self.active.id == "steps-pane":
            self.app.push_screen(Reader("Steps", rail.whole(self.follower.state, self.tui.now())))
            return
        target = self.active.target()
        if not self.follower or not isinstance(target, LiveTable) or target.selected is None:
            return
        state, key = self.follower.state, target.selected
        if target.id == "layers" and key in state.layers:
            self.app.push_screen(Reader(key, explain.matrix(state.layers[key], state.tried.get(key))))
        elif target.id == "figures":
            self.app.push_screen(Reader(key, explain.figure(figure_rows(state)[key])))
        elif target.id == "blocks":
            self.app.push_screen(Reader(f"Block {key}", explain.block(state, int(key))))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.run_worker(self.tui.action_act("open"), group="act")

    def do_resume(self) -> None:
        self.tui.resume_run()

    def do_artifacts(self) -> None:
        if self.follower:
            self.tui.show_artifacts(self.follower.state.source)

    def do_report(self) -> None:
        if self.follower:
            text = says.report(self.follower.run, self.follower.state)
            self.app.push_screen(Reader(f"Report of {self.follower.run.name}", Text(text)))

    def do_folder(self) -> None:
        if self.follower:
            self.app.push_screen(FolderScreen(self.follower.run))

    def do_headless(self) -> None:
        if self.follower:
            allowed = ["--allow-code"] if self.follower.state.allow_code else []
            self.copy_text(
                shlex.join(["compress-tui", "run", "--profile", str(self.follower.run.profile_file), *allowed])
            )

    def do_curve(self) -> None:
        if self.follower:
            if not self.query_one("#chart-pane").display:
                self.activate(self.query_one("#chart-pane", Pane))
            self.query_one(RunChart).next_curve(self.follower.state)

    def copied(self) -> str:
        if self.follower and self.active.id == "log-pane":
            return self.query_one(LogView).text
        if self.follower and self.active.id == "steps-pane":
            return str(self.follower.run.path)
        return super().copied()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "layers" and event.row_key.value:
            self.query_one("#layers-pane", Pane).say(title=self._layer_title(event.row_key.value))
        elif event.data_table.id == "blocks" and self.follower:
            self.query_one(BlockView).mark(self.follower.state)

    def _layer_title(self, name: str) -> str:
        filtered = self.query_one("#layers", LiveTable).filter_text
        return f"Layers /{filtered}" if filtered else f"Layers · {name}"

    def _show_failure(self, state: RunState) -> None:
        failure = self.query_one("#failure", Static)
        failure.display = state.failure is not None
        if state.failure is None:
            return
        lines = FEW_WORDS if self.app.size.height < TALL else MANY_WORDS
        failure.update(failures.told(state.failure, lines, self.keys))
