"""The chart of a run: one curve at a time, drawn with textual-plot, and a number beside each curve's name.

textual-plot (numpy with it) is imported when the chart is first drawn, so that no other screen pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import work
from textual.containers import Vertical
from textual.widgets import Static

from engine import figures
from engine.state import RunState
from tui.blocks import recovering
from tui.widgets.line import Line

# what is offered -> the curves of a run's history that are drawn for it, the leading one last
CURVES = {
    "error": ("reconstruction error",),
    "sparsity": ("sparsity",),
    "perplexity": ("perplexity",),
    "loss": ("held-out loss", "training loss"),
    "recovery": ("block error before recovery", "block error after recovery"),
    "prompt loss": ("prompt training loss",),
    "prompt skill": ("prompt training skill",),
}
EVERY = 1.2
"""seconds between two drawings of a curve that grows: they cost more than all else on the screen"""
Points = Sequence[tuple[float, float]]


class RunChart(Vertical):
    """Legend above, curve below."""

    can_focus = True

    def __init__(self, *, widget_id: str) -> None:
        super().__init__(id=widget_id)
        self.curve = ""
        self._plot: Any = None
        self._state: RunState | None = None
        self._drawn: tuple[object, ...] = ()
        self._at, self._late = -math.inf, False
        """the time of the last point that was drawn, and whether there are others that were not"""

    def compose(self) -> list[Static]:
        return [Line(id="curves"), Static(id="no-points")]

    def show(self, state: RunState) -> None:
        """Draws the chosen curve, by default what the run is at or the first one with points."""
        self._state = state
        curve = self.curve or _default(state)
        lines = [state.history.get(name, []) for name in CURVES[curve]]
        points, width = lines[-1], self.size.width
        self.query_one("#curves", Line).put(_legend(state, curve, width - 2))
        empty = self.query_one("#no-points", Static)
        empty.display = len(points) < 2
        if empty.display:
            empty.update(f"{figures.several(len(points), 'point')} of {curve} so far")
        step = max(1, len(points) // (2 * width or 1))  # fewer new points than this would not be seen
        last = points[-1:] if step == 1 or state.finished else ()
        drawn = (state.run, curve, width, self.size.height, len(points) // step, last)
        if self._plot is not None:
            self._plot.display = len(points) > 1
        self._late = False
        if len(points) > 1 and drawn != self._drawn and width and self.size.height > 5:
            self._late = drawn[:4] == self._drawn[:4] and 0 <= points[-1][0] - self._at < EVERY and not state.finished
            if not self._late:
                self._drawn, self._at = drawn, points[-1][0]
                self._draw([thin(line, 2 * width) for line in lines], state.started or points[0][0])

    def show_time(self, now: float) -> None:
        """Draws the points that were held back, when it is time."""
        if self._late and self._state is not None and now - self._at >= EVERY:
            self._at = -math.inf
            self.show(self._state)

    def reset(self) -> None:
        """Forgets what was drawn: another run."""
        self._drawn, self.curve, self._late = (), "", False

    def on_resize(self) -> None:
        if self._state is not None:
            self.show(self._state)

    def next_curve(self, state: RunState) -> str:
        known = _known(state) or list(CURVES)
        now = self.curve or _default(state)
        self.curve = known[(known.index(now) + 1) % len(known)] if now in known else known[0]
        self.show(state)
        return self.curve

    @work(group="chart", exclusive=True)
    async def _draw(self, lines: Sequence[Points], start: float) -> None:
        if self._plot is None:
            self._plot = plot_widget()
            await self.mount(self._plot)  # its own mounting empties it
        colours = ["bright_black", self.app.theme_variables.get("accent", "cyan")][-len(lines) :]
        _curves(self._plot, lines, start, colours)


def _known(state: RunState) -> list[str]:
    return [name for name, drawn in CURVES.items() if state.history.get(drawn[-1])]


def _default(state: RunState) -> str:
    drawable = [name for name, drawn in CURVES.items() if len(state.history.get(drawn[-1], ())) > 1]
    if recovering(state) and "recovery" in drawable:
        return "recovery"
    at_work = state.steps.get(-1 if state.current is None else state.current)
    label = at_work.label if at_work else ""
    if label == "training" and "loss" in drawable:
        return "loss"
    if label.startswith("training ") and "prompt skill" in drawable:  # of virtual tokens or of weights, by name
        return "prompt skill"
    return next(iter(drawable), "error")


def plot_widget() -> Any:
    """An empty plot that takes no keys."""
    from textual_plot import PlotWidget

    plot = PlotWidget(allow_pan_and_zoom=False)
    plot.can_focus = False
    for margin, cells in (("margin_top", 0), ("margin_bottom", 1), ("margin_left", 8)):
        plot.set_reactive(getattr(PlotWidget, margin), cells)
    return plot


def _curves(plot: Any, lines: Sequence[Points], start: float, colours: Sequence[str]) -> None:
    from textual_plot import HiResMode

    x = [time - start for points in lines for time, _ in points]
    y = [value for points in lines for _, value in points]
    low, high = min(y), max(y)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    plot.clear()
    plot.set_xlimits(min(x), max(max(x), min(x) + 1e-3))
    plot.set_ylimits(max(0.0, low - room), high + room)
    for points, colour in zip(lines, colours, strict=True):
        times = [time - start for time, _ in points]
        plot.plot(times, [value for _, value in points], line_style=colour, hires_mode=HiResMode.BRAILLE)


def thin(points: Points, most: int) -> Points:
    """At most `most` points: the mean of equal stretches, and the last point itself."""
    if len(points) <= most:
        return points
    step = len(points) / (most - 1)
    out = []
    for index in range(most - 1):
        part = points[int(index * step) : max(int(index * step) + 1, int((index + 1) * step))]
        out.append((sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)))
    return [*out, points[-1]]


def _legend(state: RunState, chosen: str, width: int) -> Text:
    """The curves that there are, each with its last figure; the chosen one first where not all fit."""
    names = _known(state) or list(CURVES)
    items = {name: _item(state, name, name == chosen) for name in names}
    if sum(item.cell_len for item in items.values()) - 1 > width and chosen in names:
        at = names.index(chosen)
        names = names[at:] + names[:at]
    text = Text(no_wrap=True, overflow="ellipsis")
    for name in names:
        if text and text.cell_len + items[name].cell_len - 1 > width:
            text.append("…")
            break
        text.append_text(items[name])
    return text


def _item(state: RunState, name: str, chosen: bool) -> Text:
    points = [state.history.get(curve) for curve in CURVES[name]]
    value = " → ".join("-" if not line else _value(name, line[-1][1]) for line in points)
    text = Text(f"{'●' if chosen else '○'} {name} ", "bold underline" if chosen else "")
    return Text.assemble(text, (f"{value} ", "cyan bold" if chosen else "cyan"))


def _value(curve: str, value: float) -> str:
    return figures.share(value) if curve == "sparsity" else figures.number(value, 4 if value < 1 else 2)
