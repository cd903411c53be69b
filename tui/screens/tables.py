"""A dialog around one table: the keys that move in it, sort it and close it."""

from __future__ import annotations

from typing import TypeVar

from textual.binding import Binding
from textual.screen import ModalScreen

from tui.screens.dialogs import CLOSE
from tui.widgets.table import LiveTable

Answer = TypeVar("Answer")


class TableDialog(ModalScreen[Answer | None], inherit_bindings=False):
    """Answers None when it is closed."""

    BINDINGS = [
        CLOSE,
        Binding("q", "close"),
        Binding("j", "move('cursor_down')"),
        Binding("k", "move('cursor_up')"),
        Binding("g", "jump(0)"),
        Binding("G", "jump(-1)"),
        Binding("s", "sort"),
        Binding("y", "copy"),
    ]

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    def copied(self) -> str:
        """What `y` copies: the marked row's key."""
        return self.table.selected or ""

    def action_move(self, action: str) -> None:
        getattr(self.table, f"action_{action}")()

    def action_jump(self, index: int) -> None:
        self.table.move_cursor(row=index % max(1, self.table.row_count), animate=False)

    def action_sort(self) -> None:
        self.table.sort_next()

    def action_copy(self) -> None:
        if text := self.copied():
            self.app.copy_to_clipboard(text)
            self.notify(f"copied: {text}", timeout=2, markup=False)

    def action_close(self) -> None:
        self.dismiss(None)
