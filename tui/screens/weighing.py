"""The part of the Inspect screen that reads weights: those of the selected matrix alone, and their twins' in another model.

They are read in a thread when the cursor has come to rest, and what was found is kept while the model is open.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from textual import work
from textual.containers import VerticalScroll

from engine.errors import EngineError, Unavailable, UsageError
from tui import recent, says
from tui.resident import pair
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Ask
from tui.threads import aside
from tui.widgets import comparison
from tui.widgets.pane import Pane
from tui.widgets.table import LiveTable
from tui.widgets.weights import Weights

if TYPE_CHECKING:
    from engine.stored.difference import Difference
    from engine.stored.portrait import Portrait
    from engine.summary import ModelSummary, TensorInfo

REST = 0.15
"""seconds that the cursor stays before weights are read"""
NO_MATRIX = "Go to a matrix: its weights are read from its file."


class Seen(NamedTuple):
    """A matrix's portrait or why there is none, of every `step`-th row; how far its twin is `apart`."""

    portrait: Portrait | str
    step: int = 1
    apart: Difference | None = None


class WeighingScreen(WorkScreen):
    """A screen with an open model, `summary`, and perhaps an `other` one to compare it with."""

    def __init__(self) -> None:
        super().__init__()
        self.summary: ModelSummary | None = None
        self.other: ModelSummary | None = None
        self.pairs: comparison.Pairs = {}
        self._weighed: dict[str, Seen] = {}
        self._asked = ""

    @property
    def chosen(self) -> TensorInfo | None:
        """The matrix that the keys have chosen."""
        return None

    def show_detail(self) -> None:
        """Says what is known of the chosen matrix."""

    def weights_pane(self) -> Pane:
        return Pane(VerticalScroll(Weights(widget_id="weights")), title="Weights", widget_id="weights-pane")

    def compare_pane(self) -> Pane:
        table = LiveTable(comparison.COLUMNS, widget_id="compare")
        return Pane(table, title="Compare", widget_id="compare-pane", needed=False)

    def forget_weights(self) -> None:
        """Nothing that was read holds any more, and nothing is compared."""
        self.other, self.pairs = None, {}
        self._weighed, self._asked = {}, ""
        self.need(self.query_one("#compare-pane", Pane), False)

    def pane_changed(self) -> None:
        super().pane_changed()
        self.call_after_refresh(self.weigh)

    def weigh(self) -> None:
        """Shows the chosen matrix's weights; reads them where somebody looks and they are not known."""
        tensor, shown = self.chosen, self.query_one(Weights)
        if tensor is None or not tensor.shape or not tensor.parameters:
            shown.show(NO_MATRIX)
        elif (seen := self._weighed.get(tensor.name)) is not None:
            shown.show(seen.portrait, seen.step)
        elif self.query_one("#weights-pane").display or self.query_one("#compare-pane").display:
            shown.show(f"reading {tensor.name} …")
            if self._asked != tensor.name:
                self._asked = tensor.name
                self._read_weights(tensor)

    def difference(self, tensor: TensorInfo | None) -> Difference | None:
        """How far a matrix is from its twin, where both were read."""
        seen = self._weighed.get(tensor.name) if tensor else None
        return seen.apart if seen else None

    @work(group="weights", exclusive=True)
    async def _read_weights(self, tensor: TensorInfo) -> None:
        await asyncio.sleep(REST)
        summary, other = self.summary, self.other
        if summary is None:
            return
        try:
            seen = await asyncio.to_thread(_seen, summary, tensor, other)
        except EngineError as error:
            seen = Seen("\n".join(error.lines()))
        if (summary, other) == (self.summary, self.other):
            self._weighed[tensor.name] = seen
            self._asked = ""
            self.show_comparison()
            self.show_detail()

    # another model

    def do_compare(self) -> None:
        """Asks for the other model; the open run's result is offered."""
        written = self._written()
        known = [written] if written else []
        known += [one for one in reversed(recent.read(recent.MODELS)) if one != written]
        question = "Compare with: a folder, a file, last (the newest run's result); nothing ends it"
        self.app.push_screen(Ask(question, written, known=known, check=lambda line: None), self._compare)

    def _written(self) -> str:
        follower = self.tui.follower
        try:
            return pair(follower.run, follower.state)[1] if follower else ""
        except UsageError:
            return ""

    def _compare(self, source: str | None) -> None:
        if source:
            self._read_other(source)
        elif source is not None:
            self.forget_weights()
            self.show_detail()

    @work(group="compare", exclusive=True)
    async def _read_other(self, source: str) -> None:
        summary = self.summary
        try:
            other = await aside(lambda: headers(says.model(source)))
        except EngineError as error:
            self.tui.complain(error)
            return
        if summary is None or summary is not self.summary:
            return
        self.forget_weights()
        self.other, self.pairs = other, comparison.paired(summary, other)
        pane = self.query_one("#compare-pane", Pane)
        pane.label = f"Compare · {other.title}"
        pane.say(title=pane.label, subtitle="the selected one is read · = another")
        self.need(pane, True)
        self.show_comparison()
        self.activate(pane)

    def show_comparison(self) -> None:
        if self.other is not None:
            known = {seen[0].name: found for seen in self.pairs.values() if (found := self.difference(seen[0]))}
            self.query_one("#compare", LiveTable).show(comparison.rows(self.pairs, known))


def headers(source: str) -> ModelSummary:
    """A model's headers. Raises Unavailable."""
    if source.startswith(("builtin:", "python:")):
        raise Unavailable("made by code: there are no file headers to read", where=source)
    from engine import inspection

    return inspection.inspect(source)


def _seen(summary: ModelSummary, tensor: TensorInfo, other: ModelSummary | None) -> Seen:
    """Reads a matrix, and its twin where there is one of its shape."""
    from engine.stored.difference import difference
    from engine.stored.portrait import portrait
    from engine.stored.reading import read
    from tui.names import short

    stored = read(summary, tensor)
    twin = comparison.by_name(other).get(short(tensor.name)) if other else None
    apart = None
    if other and twin and comparison.comparable(tensor, twin):
        apart = difference(stored.values_RC, read(other, twin).values_RC)
    return Seen(portrait(stored.values_RC), stored.step, apart)
