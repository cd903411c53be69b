"""The themes to choose from; the marked one is on the screen at once, and goes when another or none is chosen."""

from __future__ import annotations

from textual.widgets import OptionList

from tui.screens.steps import Pick
from tui.widgets.themes import TITLES


class Colours(Pick):
    """Answers the name of a theme."""

    def __init__(self, current: str) -> None:
        super().__init__("Colours", TITLES, current)
        self.current = current

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.app.theme = event.option.id or self.current

    def do_back(self) -> None:
        self.app.theme = self.current
        super().do_back()
