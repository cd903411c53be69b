"""The Sensitivity pane: a heat strip over blocks, and the matrices by how much the model minds their pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from engine import events as ev
from engine import figures, means
from engine.state import LayerState
from tui.actions import Keys
from tui.widgets.columns import Column, Shown
from tui.widgets.explain import spark
from tui.widgets.layers import short_names
from tui.widgets.line import Line
from tui.widgets.states import height
from tui.widgets.table import LiveTable

COLUMNS = (
    Column("layer", "matrix", keep="end", room=19),
    Column("curve", "curve", 5),
    Column("error", "middle", 6, lambda error: figures.number(error, 4), numeric=True),
    Column("errors", "error at each", 34, least=96, sortable=False),
    Column("loss", "loss", 7, lambda loss: f"{loss:+.4f}", numeric=True, optional=True),
    Column("planned", "share", 6, figures.share, numeric=True, optional=True, least=54),
    Column("reason", "because", 28, optional=True, least=110, sortable=False),
)
EMPTY = (
    "No sensitivity yet. A run of this model with the step\n\n  [[step]]\n  use = \"sensitivity\"\n\n"
    "measures it; open that run with {runs}."
)  # fmt: skip
Tried = Mapping[str, ev.LayerSensitivity]
OTHER = "\n\n{runs} opens another run, {model} another model."


class Sensitivity(Vertical):
    """Heat strip and table, or what to do when there is nothing to show."""

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self.keys = keys

    def compose(self) -> list[Static | LiveTable]:
        table = LiveTable(COLUMNS, widget_id="sensitivity")
        table.display = False
        return [Static(self.keys.text(EMPTY), id="no-sensitivity", markup=False), Line(id="heat"), table]

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    def show(self, found: Tried, layers: Mapping[str, LayerState], other: str) -> None:
        """Shows what was measured, and planned from it; `other` is the model of an open run that is not this one."""
        self.table.display = self.query_one("#heat").display = bool(found)
        empty = self.query_one("#no-sensitivity", Static)
        empty.display = not found
        compressed = f"The open run compresses another model:\n{other}"
        empty.update(compressed + self.keys.text(OTHER) if other else self.keys.text(EMPTY))
        if found:
            self.table.show(rows(found, layers))
            self.mark(found)

    def mark(self, found: Tried) -> None:
        """Draws the heat strip with the selected matrix's block marked."""
        self.query_one("#heat", Line).put(heat(found, found.get(self.table.selected or ""), self.size.width))


def rows(found: Tried, layers: Mapping[str, LayerState]) -> dict[str, dict[str, Any]]:
    """One row a matrix, those that move the model's loss most first, then by error."""
    names, top = short_names(found), max(max(event.errors) for event in found.values())
    ordered = sorted(found.values(), key=lambda event: event.rank, reverse=True)
    return {event.layer: _row(event, layers.get(event.layer), names[event.layer], top) for event in ordered}


def _row(event: ev.LayerSensitivity, layer: LayerState | None, name: str, top: float) -> dict[str, Any]:
    return {
        "layer": name,
        "curve": Shown(max(event.errors), spark(event.errors, top)),
        "error": event.error,
        "errors": " ".join(f"{error:.3g}" for error in event.errors),
        "loss": event.loss,
        "planned": layer.planned if layer else None,
        "reason": layer.reason or None if layer else None,
    }


def ratios(found: Tried) -> str:
    """At which sparsities the errors were measured, in words."""
    measured = next((event.ratios for event in found.values()), [])
    return f"error at {' '.join(figures.share(ratio, 0) for ratio in measured)} sparsity" if measured else ""


def heat(found: Tried, chosen: ev.LayerSensitivity | None, width: int) -> Text:
    """What each block moves as one character (of a few blocks: the largest, where there is no room for all): the model's
    loss where it was measured, else the mean error; below it the worst and the chosen matrix's block with their numbers.
    """
    label, by_block = _by_block(found)
    if not by_block:
        return Text()
    numbers, top = list(by_block), max(by_block.values())
    each = math.ceil(len(numbers) / max(1, width - 9))
    text = Text(f" {label:<6} ", "bright_black", no_wrap=True, overflow="ellipsis")
    for start in range(0, len(numbers), each):
        part = numbers[start : start + each]
        value = max(0.0, *(by_block[number] for number in part))
        text.append(height(value, top), _style(chosen, part))
    worst = max(by_block, key=by_block.__getitem__)
    text.append(f"\n worst {worst}: {figures.number(top, 4)}")
    if chosen and chosen.block in by_block:
        text.append(f" · this {chosen.block}: {figures.number(by_block[chosen.block], 4)}", "bold yellow")
    return text


def _by_block(found: Tried) -> tuple[str, dict[int, float]]:
    losses = means.by_block((event.block, event.loss, 1) for event in found.values())
    return ("loss", losses) if losses else ("error", means.by_block((e.block, e.error, 1) for e in found.values()))


def _style(chosen: ev.LayerSensitivity | None, part: list[int]) -> str:
    return "bold yellow" if chosen and chosen.block in part else "cyan"
