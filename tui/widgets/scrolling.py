"""Scrollbars that begin where their widget is scrolled to: one that is shown after the scrolling has missed it."""

from __future__ import annotations

from textual.scroll_view import ScrollView


class Scrolled(ScrollView):
    """What scrolls itself, perhaps before there is room for a scrollbar."""

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:
            self.vertical_scrollbar.position = self.scroll_y
