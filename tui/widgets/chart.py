"""The chart of a run: one curve at a time, drawn with textual-plot, and a number beside each curve's name.

textual-plot (numpy with it) is imported when the chart is first drawn, so that no other screen pays for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import work
from textual.containers import Vertical
from textual.widgets import Static

from engine import figures
from engine.state import RunState
from tui.widgets.line import Line

CURVES = ("reconstruction error", "sparsity", "perplexity")
LABELS = {"reconstruction error": "error"}
Points = Sequence[tuple[float, float]]


class RunChart(Vertical):
    """Legend above, curve below."""

    can_focus = True

    def __init__(self, *, widget_id: str) -> None:
        super().__init__(id=widget_id)
        self.curve = ""
        self._plot: Any = None
        self._state: RunState | None = None
        self._drawn: tuple[object, ...] | None = None

    def compose(self) -> list[Static]:
        return [Line(id="curves"), Static(id="no-points")]

    def show(self, state: RunState) -> None:
        """Draws the chosen curve, the first one with points by default."""
        self._state = state
        curve = self.curve or next((name for name in CURVES if len(state.history.get(name, ())) > 1), CURVES[0])
        self.query_one("#curves", Line).put(_legend(state, curve))
        points = state.history.get(curve, [])
        empty = self.query_one("#no-points", Static)
        empty.display = len(points) < 2
        empty.update(f"{len(points)} point{'s' if len(points) != 1 else ''} of {curve} so far")
        drawn = (state.run, curve, len(points), points[-1:], self.size.width, self.size.height)
        if self._plot is not None:
            self._plot.display = len(points) > 1
        if len(points) > 1 and drawn != self._drawn and self.size.width and self.size.height > 5:
            self._drawn = drawn
            self._draw(thin(points, 2 * self.size.width), state.started or points[0][0])

    def reset(self) -> None:
        """Forgets what was drawn: another run."""
        self._drawn, self.curve = None, ""

    def on_resize(self) -> None:
        if self._state is not None:
            self.show(self._state)

    def next_curve(self, state: RunState) -> str:
        known = [name for name in CURVES if state.history.get(name)] or list(CURVES)
        now = self.curve or next((name for name in CURVES if len(state.history.get(name, ())) > 1), CURVES[0])
        self.curve = known[(known.index(now) + 1) % len(known)] if now in known else known[0]
        self.show(state)
        return self.curve

    @work(group="chart", exclusive=True)
    async def _draw(self, points: Points, start: float) -> None:
        if self._plot is None:
            self._plot = _plot_widget()
            await self.mount(self._plot)  # its own mounting empties it
        _curve(self._plot, points, start, self.app.theme_variables.get("accent", "cyan"))


def _plot_widget() -> Any:
    from textual_plot import PlotWidget

    plot = PlotWidget(allow_pan_and_zoom=False)
    plot.can_focus = False
    for margin, cells in (("margin_top", 0), ("margin_bottom", 1), ("margin_left", 8)):
        plot.set_reactive(getattr(PlotWidget, margin), cells)
    return plot


def _curve(plot: Any, points: Points, start: float, colour: str) -> None:
    from textual_plot import HiResMode

    x, y = [time - start for time, _ in points], [value for _, value in points]
    low, high = min(y), max(y)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    plot.clear()
    plot.set_xlimits(x[0], max(x[-1], x[0] + 1e-3))
    plot.set_ylimits(max(0.0, low - room), high + room)
    plot.plot(x, y, line_style=colour, hires_mode=HiResMode.BRAILLE)


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


def _legend(state: RunState, chosen: str) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for curve in CURVES:
        points = state.history.get(curve)
        value = "-" if not points else _value(curve, points[-1][1])
        name = LABELS.get(curve, curve)
        text.append(f"{'●' if curve == chosen else '○'} {name} ", "bold underline" if curve == chosen else "")
        text.append(f"{value} ", "cyan bold" if curve == chosen else "cyan")
    return text


def _value(curve: str, value: float) -> str:
    return figures.share(value) if curve == "sparsity" else figures.number(value, 4 if value < 1 else 2)
