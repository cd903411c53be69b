"""A text that is redrawn only when it changes, and that never moves what is around it."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Line(Static):
    """One line of fixed height."""

    def put(self, text: Text) -> None:
        if text != self.content:
            self.update(text, layout=False)
