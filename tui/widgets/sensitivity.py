"""The Sensitivity pane: a heat strip over blocks, and the matrices by how much the model minds their pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from engine import figures
from engine.state import LayerState
from tui.blocks import means, middle
from tui.widgets.explain import SPARKS, spark
from tui.widgets.layers import short_names
from tui.widgets.line import Line
from tui.widgets.table import Column, LiveTable, Shown

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
    "measures it; open that run with o."
)  # fmt: skip
OTHER = "The open run compresses another model:\n{source}\n\no opens another run, m another model."


class Sensitivity(Vertical):
    """Heat strip and table, or what to do when there is nothing to show."""

    def compose(self) -> list[Static | LiveTable]:
        table = LiveTable(COLUMNS, widget_id="sensitivity")
        table.display = False
        return [Static(EMPTY, id="no-sensitivity", markup=False), Line(id="heat"), table]

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    def show(self, layers: Mapping[str, LayerState], other: str) -> None:
        """Shows what was measured; `other` is the model of an open run that is not this one."""
        found = {name: layer for name, layer in layers.items() if layer.sensitivity}
        self.table.display = self.query_one("#heat").display = bool(found)
        empty = self.query_one("#no-sensitivity", Static)
        empty.display = not found
        empty.update(OTHER.format(source=other) if other else EMPTY)
        if found:
            self.table.show(rows(found))
            self.mark(layers)

    def mark(self, layers: Mapping[str, LayerState]) -> None:
        """Draws the heat strip with the selected matrix's block marked."""
        found = {name: layer for name, layer in layers.items() if layer.sensitivity}
        self.query_one("#heat", Line).put(heat(found, found.get(self.table.selected or ""), self.size.width))


def rows(found: Mapping[str, LayerState]) -> dict[str, dict[str, Any]]:
    """One row a matrix, those that move the model.s loss most first, then by error."""
    names, top = short_names(found), max(max(layer.sensitivity) for layer in found.values())
    ordered = sorted(found.values(), key=lambda layer: (layer.loss or 0.0, middle(layer) or 0.0), reverse=True)
    return {
        layer.name: {
            "layer": names[layer.name],
            "curve": Shown(max(layer.sensitivity), spark(layer.sensitivity, top)),
            "error": middle(layer),
            "errors": " ".join(f"{error:.3g}" for error in layer.sensitivity),
            "loss": layer.loss,
            "planned": layer.planned,
            "reason": layer.reason or None,
        }
        for layer in ordered
    }


def ratios(layers: Mapping[str, LayerState]) -> str:
    """At which sparsities the errors were measured, in words."""
    measured = next((layer.ratios for layer in layers.values() if layer.ratios), [])
    return f"error at {' '.join(figures.share(ratio, 0) for ratio in measured)} sparsity" if measured else ""


def heat(found: Mapping[str, LayerState], chosen: LayerState | None, width: int) -> Text:
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
        text.append(SPARKS[round(7 * value / top)] if top > 0 else SPARKS[0], _style(chosen, part))
    worst = max(by_block, key=by_block.__getitem__)
    text.append(f"\n worst {worst}: {figures.number(top, 4)}")
    if chosen and chosen.block in by_block:
        text.append(f" · this {chosen.block}: {figures.number(by_block[chosen.block], 4)}", "bold yellow")
    return text


def _by_block(found: Mapping[str, LayerState]) -> tuple[str, dict[int, float]]:
    losses = {name: layer.loss for name, layer in found.items() if layer.loss is not None}
    if losses:
        return "loss", means(losses, found.values())
    return "error", means({name: middle(layer) or 0.0 for name, layer in found.items()}, found.values())


def _style(chosen: LayerState | None, part: list[int]) -> str:
    return "bold yellow" if chosen and chosen.block in part else "cyan"
