"""The part of the Inspect screen that draws weights: those of the selected matrix alone.

They are read in a thread when the cursor has come to rest, and what was found is kept while the model is open.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from textual import work

from engine.errors import EngineError
from tui.screens.surveying import SurveyScreen
from tui.threads import aside
from tui.widgets.pane import Pane
from tui.widgets.typed import Scroll
from tui.widgets.weights import Weights

if TYPE_CHECKING:
    from engine.stored.portrait import Portrait
    from engine.summary import ModelSummary, TensorInfo

REST = 0.15
"""seconds that the cursor stays before weights are read"""
NO_MATRIX = "Go to a matrix: its weights are read from its file."


class Seen(NamedTuple):
    """A matrix's portrait or why there is none, of every `step`-th row."""

    portrait: Portrait | str
    step: int = 1


class WeighingScreen(SurveyScreen):
    """A screen that draws the chosen matrix of its model."""

    def __init__(self) -> None:
        super().__init__()
        self._weighed: dict[str, Seen] = {}
        self._asked = ""

    def weights_pane(self) -> Pane:
        return Pane(Scroll(Weights(widget_id="weights")), title="Weights", widget_id="weights-pane")

    def forget_weights(self) -> None:
        super().forget_weights()
        self._weighed, self._asked = {}, ""

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
        elif self.query_one("#weights-pane").display:
            shown.show(f"reading {tensor.name} …")
            if self._asked != tensor.name:
                self._asked = tensor.name
                self._read_weights(tensor)

    @work(group="weights", exclusive=True)
    async def _read_weights(self, tensor: TensorInfo) -> None:
        await asyncio.sleep(REST)
        summary = self.summary
        if summary is None:
            return
        try:
            seen = await aside(_seen, summary, tensor)
        except EngineError as error:
            seen = Seen("\n".join(error.lines()))
        if summary is self.summary:
            self._weighed[tensor.name] = seen
            self._asked = ""
            self.weigh()


def _seen(summary: ModelSummary, tensor: TensorInfo) -> Seen:
    """Reads a matrix."""
    from engine.stored.portrait import portrait
    from engine.stored.reading import read

    stored = read(summary, tensor)
    return Seen(portrait(stored.values_RC), stored.step)
