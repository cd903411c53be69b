"""A profile's text with its colours and, where one is marked, a line that is brought up."""

from __future__ import annotations

from itertools import accumulate

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

ABOVE = 3
"""lines that stay in sight above the marked one"""


class TomlView(VerticalScroll, inherit_bindings=False):
    """The text; `shown` is what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        self._line: int | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="text")

    def show(self, text: str, line: int | None) -> None:
        """Shows `text`; only what differs from before is done."""
        if (text, line) == (self.shown, self._line):
            return
        self.shown, self._line = text, line
        from textual.highlight import highlight

        content = highlight(text, language="toml")
        if line is not None:
            start = sum(len(before) + 1 for before in text.split("\n")[:line])
            content = content.stylize("reverse", start, start + len(text.split("\n")[line]))
        self.query_one("#text", Static).update(content)
        if line is not None:
            self.call_after_refresh(self._bring_up)

    def _bring_up(self) -> None:
        """Scrolls so that the marked line is in sight; long lines take several."""
        width = max(1, self.scrollable_content_region.width)
        tops = [0, *accumulate(max(1, -(-cell_len(line) // width)) for line in self.shown.split("\n"))]
        top, height = tops[self._line or 0], self.scrollable_content_region.height
        if self._line is not None and not self.scroll_y <= top < self.scroll_y + height - 1:
            self.scroll_to(y=max(0, top - ABOVE), animate=False)
