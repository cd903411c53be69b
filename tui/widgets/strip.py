"""A strip of bars, one for each block: heights between two percentages, a cursor, block numbers below.

It draws and holds no values of its own; who shows it decides what the bars mean and what keys do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Static

from tui.widgets.states import piece

AXIS = 5


@dataclass(frozen=True)
class Bar:
    """One block's bar: a share in [0, 1], None for not known; hatched where it is only meant and not done."""

    value: float | None
    done: bool = True


class Strip(Static):
    """The strip; `show` draws it for the size it has."""

    def __init__(self, *, widget_id: str, focusable: bool = False) -> None:
        super().__init__(id=widget_id)
        self.can_focus = focusable
        self._last: tuple[Sequence[Bar], int | None, Sequence[int]] = ((), None, ())

    def show(self, bars: Sequence[Bar], cursor: int | None, numbers: Sequence[int] = ()) -> None:
        """Bars from left to right, the cursor's place among them, the blocks' numbers (0, 1, 2, ... by default)."""
        self._last = (bars, cursor, numbers or range(len(bars)))
        drawn = draw(*self._last, self.size.width, self.size.height)
        if drawn != self.content:
            self.update(drawn, layout=False)

    def on_resize(self) -> None:
        self.show(*self._last)


def draw(bars: Sequence[Bar], cursor: int | None, numbers: Sequence[int], width: int, height: int) -> Text:
    """The strip as lines: `height` - 1 of bars, and one with the blocks' numbers."""
    rows, room = height - 1, width - AXIS
    if not bars or rows < 1 or room < 1:
        return Text()
    cell = max(1, min(4, room // len(bars)))
    first, last = _window(len(bars), room // cell, cursor or 0)
    low, high = scale([bar.value for bar in bars if bar.value is not None])
    text = Text(no_wrap=True)
    for row in reversed(range(rows)):
        text.append(_label(row, rows, low, high), "bright_black")
        for place in range(first, last):
            glyph = _glyph(bars[place], row, rows, low, high)
            style = "bold yellow" if place == cursor else "cyan" if bars[place].done else "bright_black"
            text.append((glyph * max(1, cell - 1)).ljust(cell), style)
        text.append("\n")
    text.append(_numbers(numbers[first:last], None if cursor is None else cursor - first, cell), "bright_black")
    return text


def scale(values: Sequence[float]) -> tuple[float, float]:
    """The tenths around all values, with room below the lowest and above the highest, so that differences show."""
    if not values:
        return 0.0, 1.0
    low = max(0.0, math.floor(10 * min(values) - 1e-9) / 10 - 0.1)
    return low, min(1.0, math.floor(10 * max(values) + 1e-9) / 10 + 0.1)


def _window(count: int, fit: int, cursor: int) -> tuple[int, int]:
    """The bars that are shown where not all fit: those around the cursor."""
    if count <= fit:
        return 0, count
    first = min(max(0, cursor - fit // 2), count - fit)
    return first, first + fit


def _label(row: int, rows: int, low: float, high: float) -> str:
    shown = f"{100 * high:.0f}%" if row == rows - 1 else f"{100 * low:.0f}%" if row == 0 else ""
    return f"{shown:>{AXIS - 1}} "


def _glyph(bar: Bar, row: int, rows: int, low: float, high: float) -> str:
    if bar.value is None:
        return "·" if row == 0 else " "
    glyph = piece((bar.value - low) / (high - low), row, rows)
    return glyph if bar.done or glyph != "█" else "▒"


def _numbers(numbers: Sequence[int], cursor: int | None, cell: int) -> str:
    """The first, the last and every tenth block's number, and a mark under the cursor."""
    line = [" "] * (len(numbers) * cell + 8)
    for place, number in enumerate(numbers):
        if place in (0, len(numbers) - 1) or number % 10 == 0:
            digits = str(number)
            start = place * cell
            if all(char == " " for char in line[max(0, start - 1) : start + len(digits) + 1]):
                line[start : start + len(digits)] = digits
    if cursor is not None:
        line[cursor * cell] = "▲"
    return " " * AXIS + "".join(line).rstrip()
