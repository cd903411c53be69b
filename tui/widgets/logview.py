"""The run's log: one line an event, warnings and errors told by a word as well as by colour."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from rich.text import Text
from textual.geometry import Region
from textual.widgets import RichLog

from engine import events as ev
from engine.state import LOG_LINES
from tui.widgets.scrolling import Scrolled
from tui.widgets.states import COLOURS


class LogView(RichLog, Scrolled, inherit_bindings=False):
    """Appends what is new; `/` leaves only lines that contain a word."""

    _held = False
    """whether lines are being added where the scrollbar is there: always, once the log was laid out"""

    def __init__(self, *, widget_id: str) -> None:
        super().__init__(id=widget_id, max_lines=LOG_LINES, wrap=True, min_width=10)
        self._events: Sequence[ev.Log] = ()
        self._last = -1
        self.filter_text = ""

    def show(self, log: Sequence[ev.Log]) -> None:
        """Writes the lines that are newer than the last one shown."""
        if log and log[-1].seq < self._last:
            self.reset()
        self._events = log
        lines = [line for event in log if event.seq > self._last and (line := self._line(event))]
        self._last = log[-1].seq if log else self._last
        if lines:
            at_end = self.is_vertical_scroll_end
            self._held = self.show_vertical_scrollbar
            self.write(Text("\n").join(lines), scroll_end=False)
            if self._held:
                self._scroll_update(self.virtual_size)
                self._held = False
            if at_end:
                self.scroll_end(animate=False, immediate=True, x_axis=False)

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Every line asks for the whole screen to be laid out anew: that waits where the scrollbar is there already."""
        return super().refresh(*regions, repaint=repaint, layout=layout and not self._held, recompose=recompose)

    def reset(self) -> None:
        """Forgets what was shown: another run."""
        self.clear()
        self._last = -1

    def filter_by(self, text: str) -> None:
        self.filter_text = text
        self.reset()
        self.show(self._events)

    def blank(self, log: Sequence[ev.Log], nothing: str) -> str:
        """Why no line is shown, `nothing` where there is none; "" where one is."""
        if self.filter_text and log and not any(map(self._line, log)):
            return f"No line has “{self.filter_text}” in it."
        return "" if log else nothing

    @property
    def text(self) -> str:
        """The lines that are shown, with time and level, as they can be copied."""
        return "\n".join(line.plain for event in self._events if (line := self._line(event)))

    def _line(self, event: ev.Log) -> Text | None:
        said = f"{event.message}; {event.hint}" if event.hint else event.message
        if self.filter_text.lower() not in f"{event.level}: {said}".lower():
            return None
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        word = "" if event.level == "info" else f"{event.level}: "
        return Text.assemble((f"{clock} ", "bright_black"), (word, COLOURS.get(event.level, "")), said)
