"""The part of the Inspect screen that reads whole models: every matrix's zeros, and how far it is from its twin in another.

In a thread, for a moment at a time, the chosen matrix first; reading stops while another screen is shown, and what was found
is kept while the models are open.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events, work

from engine.errors import EngineError, Unavailable, UsageError
from tui import recent, says
from tui.names import short
from tui.resident import pair
from tui.screens.base import WorkScreen
from tui.screens.picking import AskModel
from tui.threads import aside
from tui.widgets import comparison
from tui.widgets.modeltree import ModelTree
from tui.widgets.pane import Pane
from tui.widgets.table import LiveTable

if TYPE_CHECKING:
    from engine.stored.difference import Difference
    from engine.summary import ModelSummary, TensorInfo

EVERY = 1.0
"""seconds between two looks at what was read"""
TURN = 0.05
"""seconds of reading after which it is asked again what to read"""


@dataclass(frozen=True)
class Unread:
    """A matrix to read, and its twin to compare it with, if any."""

    name: str
    tensor: TensorInfo
    twin: TensorInfo | None


class SurveyScreen(WorkScreen):
    """A screen with an open model, `summary`, and perhaps an `other` one to compare it with."""

    def __init__(self) -> None:
        super().__init__()
        self.summary: ModelSummary | None = None
        self.other: ModelSummary | None = None
        self.by_name: Mapping[str, TensorInfo] = {}
        self.pairs: comparison.Pairs = {}
        self.zeros: dict[str, float | None] = {}
        self.apart: dict[str, Difference | str] = {}
        self.most = 0

    @property
    def chosen(self) -> TensorInfo | None:
        """The matrix that the keys have chosen."""
        return None

    def show_detail(self) -> None:
        """Says what is known of the chosen matrix."""

    def compare_pane(self) -> Pane:
        table = LiveTable(comparison.COLUMNS, widget_id="compare")
        return Pane(table, title="Compare", widget_id="compare-pane", needed=False)

    def forget_weights(self) -> None:
        """Nothing that was read holds any more, and nothing is compared."""
        self.workers.cancel_group(self, "survey")
        self.zeros = {}
        self._compare_nothing()

    def _compare_nothing(self) -> None:
        self.other, self.pairs, self.apart = None, {}, {}
        self.need(self.query_one("#compare-pane", Pane), False)

    # reading

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self.survey()

    def on_screen_suspend(self) -> None:
        self.workers.cancel_group(self, "survey")

    def survey(self) -> None:
        """Reads what nobody has read yet, while somebody looks."""
        if self.summary is not None and self.is_current and self._ahead():
            self._survey(self.summary, self.other)

    def _ahead(self) -> list[Unread]:
        """The matrices to read, in order: the chosen one, those that are compared, the others."""
        alike = {name: twin for name, (one, twin) in self.pairs.items() if comparison.comparable(one, twin)}
        twins = {name: twin for name, twin in alike.items() if name not in self.apart}
        others = [name for name in self.by_name if name not in self.zeros and name not in twins]
        chosen = short(self.chosen.name) if self.chosen else ""
        names = sorted([*twins, *others], key=lambda name: name != chosen)
        return [Unread(name, self.by_name[name], twins.get(name)) for name in names]

    @work(group="survey", exclusive=True)
    async def _survey(self, summary: ModelSummary, other: ModelSummary | None) -> None:
        reading = await aside(import_module, "engine.stored.survey")  # numpy takes too long for the thread that draws
        self.most, shown = reading.most_of_one(len(self.by_name)), time.monotonic()
        while ahead := self._ahead():
            zeros, apart = await aside(read_some, reading, ahead, summary, other, self.most)
            self.zeros |= zeros
            self.apart |= apart
            if time.monotonic() - shown > EVERY:
                self.show_survey(whole=False)
                shown = time.monotonic()
        self.show_survey(whole=True)

    def show_survey(self, whole: bool) -> None:
        """Shows what was read so far, or the `whole` of it."""
        self.query_one(ModelTree).show_zeros(self.zeros, whole)
        self.show_comparison()
        self.show_detail()

    # another model

    def beside_other(self, tensor: TensorInfo | None) -> Text:
        """How far a matrix is from its twin, or why that cannot be said; nothing before it is known."""
        name = short(tensor.name) if tensor else ""
        found = comparison.found_of(*self.pairs[name], self.apart.get(name)) if name in self.pairs else None
        if found is None:
            return Text()
        return comparison.missing(found) if isinstance(found, str) else comparison.told(found)

    def do_compare(self) -> None:
        """Asks for the other model; the open run's result is offered."""
        written = self._written()
        known = [written] if written else []
        known += [one for one in reversed(recent.read(recent.MODELS)) if one != written]
        question = "Compare with: a folder, a file, last (the newest run's result); nothing ends it"
        self.app.push_screen(AskModel(question, written, known=known, check=lambda line: None), self._compare)

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
            self._compare_nothing()
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
        self._compare_nothing()
        self.other, self.pairs = other, comparison.paired(summary, other)
        pane = self.query_one("#compare-pane", Pane)
        pane.label = f"Compare · {other.title}"
        pane.say(title=pane.label)
        self.need(pane, True)
        self.show_comparison()
        self.activate(pane)
        self.survey()

    def show_comparison(self) -> None:
        if self.other is not None:
            self.query_one("#compare", LiveTable).show(comparison.rows(self.pairs, self.apart))
            told = self.keys.text(comparison.progress(self.pairs, self.apart))
            self.query_one("#compare-pane", Pane).say(subtitle=Text(told))


def headers(source: str) -> ModelSummary:
    """A model's headers. Raises Unavailable."""
    if source.startswith(("builtin:", "python:")):
        raise Unavailable("made by code: there are no file headers to read", where=source)
    from engine import inspection

    return inspection.inspect(source)


def read_some(
    reading: ModuleType, ahead: Sequence[Unread], summary: ModelSummary, other: ModelSummary | None, most: int
) -> tuple[dict[str, float | None], dict[str, Difference | str]]:
    """Reads the first matrix, and more until a TURN is over: shares of zeros, and differences or why there is none."""
    zeros: dict[str, float | None] = {}
    apart: dict[str, Difference | str] = {}
    ends = time.monotonic() + TURN
    for one in ahead:
        try:
            if one.twin is None or other is None:
                zeros[one.name] = reading.zeros(summary, one.tensor, most)
            else:
                apart[one.name] = found = reading.apart(summary, one.tensor, other, one.twin, most)
                zeros[one.name] = found.zeros_before
        except EngineError as error:  # its values are codes, or are not here: there is nothing to count
            if one.twin is None:
                zeros[one.name] = None
            else:
                apart[one.name] = error.message
        if time.monotonic() > ends:
            break
    return zeros, apart
