"""One matrix's weights as a picture: the histogram of those that are there, how many each group keeps, the mask's corner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import Static

from engine import figures
from tui.widgets.explain import lines
from tui.widgets.states import bar, piece

if TYPE_CHECKING:
    from engine.stored.portrait import Portrait

ROWS = 6
AXIS = 6
GROUP = 4
BAR = 10
WIDEST = 64


class Weights(Static):
    """Shows a portrait, of every `step`-th row, for the width that it has; or words."""

    def __init__(self, *, widget_id: str) -> None:
        super().__init__(id=widget_id)
        self._last: tuple[Portrait | str, int] = "", 1

    def show(self, seen: Portrait | str, step: int = 1) -> None:
        self._last = seen, step
        drawn = Text(seen) if isinstance(seen, str) else draw(seen, step, max(24, self.size.width))
        if drawn != self.content:
            self.update(drawn)

    def on_resize(self) -> None:
        self.show(*self._last)


def draw(seen: Portrait, step: int, width: int) -> Text:
    text = lines([("read", "every weight" if step == 1 else f"one row in {step}")])
    text.append_text(
        lines([("zeros", f"{figures.share(seen.zeros / seen.weights, 2)} of {figures.count(seen.weights)}")])
    )
    spread = [("mean", f"{seen.mean:.3g}"), ("deviation", f"{seen.deviation:.3g}")]
    text.append_text(lines([*spread, ("range", f"{seen.low:.3g} to {seen.high:.3g}")]))
    text.append("\nValues that are not zero\n", "underline")
    text.append_text(histogram(seen, width))
    text.append("\nN:M pattern\n", "underline")
    text.append_text(pattern(seen, width))
    return text


def histogram(seen: Portrait, width: int) -> Text:
    """The counts as bars: the highest bin's share of the weights on the axis, the values below."""
    bins, room = len(seen.counts), max(1, min(WIDEST, width - AXIS))
    each = next(n for n in range(1, bins + 1) if bins % n == 0 and bins // n <= room)
    counts = [sum(seen.counts[at : at + each]) for at in range(0, bins, each)]
    top, text = max(counts), Text()
    for row in reversed(range(ROWS)):
        label = figures.share(top / seen.weights) if row == ROWS - 1 else "0%" if row == 0 else ""
        text.append(f"{label:>{AXIS - 1}} ", "bright_black")
        text.append(
            "".join(piece(count / top if top else 0.0, row, ROWS) if count else " " for count in counts), "cyan"
        )
        text.append("\n")
    low, high = f"{-seen.edge:.2g}", f"{seen.edge:.2g}"
    middle = "0".center(len(counts) - len(low) - len(high))
    text.append(f"{'':{AXIS}}{low}{middle}{high}\n", "bright_black")
    if seen.beyond:
        text.append(f"{'':{AXIS}}{seen.beyond} further out\n", "bright_black")
    return text


def pattern(seen: Portrait, width: int) -> Text:
    """How many of M neighbours each group keeps (of four where no pattern holds), the pattern that all groups keep, the mask of
    the first ones.
    """
    text = Text(f"{seen.pattern} in every group\n" if seen.pattern else "none that every group keeps\n", "bold")
    size = int(seen.pattern.partition(":")[2] or GROUP)
    if size in seen.kept:
        for count, share in enumerate(seen.kept[size]):
            text.append(f"{count} of {size} stay ".rjust(len(f"{size} of {size} stay ")), "bright_black")
            text.append(f"{figures.share(share):>6} ")
            text.append_text(bar(round(1000 * share), 1000, BAR))
            text.append("\n")
    groups = max(1, min(seen.corner.shape[1] // size, (width + 1) // (size + 1)))
    text.append("\nFirst rows: ■ a weight, · a zero\n", "bright_black")
    for mask in seen.corner:
        cells = "".join("■" if there else "·" for there in mask)
        text.append(" ".join(cells[at : at + size] for at in range(0, groups * size, size)).rstrip() + "\n", "cyan")
    return text
