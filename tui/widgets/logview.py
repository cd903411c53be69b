"""The run's log: one line an event, warnings and errors told by a word as well as by colour."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text
from textual.widgets import RichLog

from engine import events as ev
from engine.state import LOG_LINES
from tui.widgets.states import COLOURS


class LogView(RichLog):
    """Appends what is new; `/` leaves only lines that contain a word."""

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
            self.write(Text("\n").join(lines), scroll_end=False)  # at once: every write lays the screen out anew
            if at_end:
                self.scroll_end(animate=False, immediate=True, x_axis=False)

    def reset(self) -> None:
        """Forgets what was shown: another run."""
        self.clear()
        self._last = -1

    def filter_by(self, text: str) -> None:
        self.filter_text = text
        self.reset()
        self.show(self._events)

    def _line(self, event: ev.Log) -> Text | None:
        if self.filter_text.lower() not in event.message.lower():
            return None
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        word = "" if event.level == "info" else f"{event.level}: "
        return Text.assemble((f"{clock} ", "bright_black"), (word, COLOURS.get(event.level, "")), event.message)
