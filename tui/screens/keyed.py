"""What screens and dialogs share: the keys of the table move in, sort, filter and copy from the widget that has them.

What that widget is, and what else the keys do, says the screen or the dialog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import events
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import DataTable, Input, OptionList, Tree

from tui.actions import Keys
from tui.widgets.logview import LogView
from tui.widgets.modeltree import ModelTree
from tui.widgets.table import LiveTable
from tui.widgets.typed import FilterLine, Options

if TYPE_CHECKING:
    from tui.app import CompressApp

Answer = TypeVar("Answer")
Filterable = LiveTable | ModelTree | LogView | Options


class KeyedScreen(Screen[Answer], inherit_bindings=False):
    """A screen or dialog of the table of actions, where it is called `scope`."""

    scope: ClassVar[str]
    _styled_for: object = None

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Styles hold while the app looks the same; Textual finds them anew whenever a screen is shown."""
        look = (self.app.theme, self.app.classes, self.app.pseudo_classes)
        event.refresh_styles = self._styled_for not in (None, look)
        self._styled_for = look

    @property
    def tui(self) -> CompressApp:
        return cast("CompressApp", self.app)

    @property
    def keys(self) -> Keys:
        """The keys that hold."""
        return self.tui.keys

    @property
    def target(self) -> Widget | None:
        """The widget that the keys move in."""
        return None

    def focus_target(self) -> None:
        """Gives the keys back to the target."""
        self.set_focus(self.target)

    def why_not(self, name: str) -> str | None:
        """Why an action cannot be done now, None when it can."""
        return None

    # moving

    def do_down(self) -> None:
        self._move("down")

    def do_up(self) -> None:
        self._move("up")

    def _move(self, way: str) -> None:
        if target := self.target:
            kind = "cursor" if isinstance(target, DataTable | Tree | OptionList) else "scroll"
            getattr(target, f"action_{kind}_{way}")()

    def do_page_down(self) -> None:
        self._page("down")

    def do_page_up(self) -> None:
        self._page("up")

    def _page(self, way: str) -> None:
        if act := getattr(self.target, f"action_page_{way}", None):
            act()

    def do_top(self) -> None:
        self._jump(0)

    def do_bottom(self) -> None:
        self._jump(-1)

    def _jump(self, index: int) -> None:
        target = self.target
        if isinstance(target, DataTable):
            target.move_cursor(row=index % max(1, target.row_count), animate=False)
        elif isinstance(target, Tree):
            target.cursor_line = 0 if index == 0 else target.last_line
        elif isinstance(target, OptionList):
            target.action_first() if index == 0 else target.action_last()
        elif target is not None:
            target.scroll_home(animate=False) if index == 0 else target.scroll_end(animate=False)

    # sorting, filtering, copying

    @property
    def sortable(self) -> LiveTable | ModelTree | None:
        return self.target if isinstance(self.target, LiveTable | ModelTree) else None

    @property
    def filterable(self) -> Filterable | None:
        return self.target if isinstance(self.target, Filterable) else None

    def do_sort(self) -> None:
        if target := self.sortable:
            self.notify(f"sorted by {target.sort_next()}", timeout=2, markup=False)

    def do_reverse(self) -> None:
        if target := self.sortable:
            self.notify(f"sorted by {target.sort_other_way()}", timeout=2, markup=False)

    def filter_line(self) -> FilterLine:
        """The line to type a filter in, hidden so far."""
        text = "filter: words that a row must contain · {accept@line} keeps, {back@line} clears"
        line = FilterLine(id="filter", placeholder=self.keys.text(text))
        line.display = False
        return line

    def do_filter(self) -> None:
        if target := self.filterable:
            line = self.query_one(FilterLine)
            line.value, line.display = target.filter_text, True
            line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        target = self.filterable
        if isinstance(event.input, FilterLine) and target is not None and event.value != target.filter_text:
            target.filter_by(event.value)
            self.name_filter(target.filter_text)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if isinstance(event.input, FilterLine):
            self._close_filter()

    def unfilter(self) -> bool:
        """Shows all rows again. False where there was no filter."""
        target = self.filterable
        if target is None or not (target.filter_text or self.query_one(FilterLine).display):
            return False
        target.filter_by("")
        self._close_filter()
        return True

    def _close_filter(self) -> None:
        self.query_one(FilterLine).display = False
        self.name_filter(self.filterable.filter_text if self.filterable else "")
        self.focus_target()

    def name_filter(self, text: str) -> None:
        """Says in the frame's title what is filtered by."""

    def copied(self) -> str:
        """What `copy` copies: the key of the marked row by default."""
        return self.target.selected or "" if isinstance(self.target, LiveTable) else ""

    def do_copy(self) -> None:
        self.copy_text(self.copied())

    def copy_text(self, text: str) -> None:
        """Puts a text on the terminal's clipboard and says so."""
        self.app.copy_to_clipboard(text)
        first = text.splitlines()[0]
        self.notify(f"copied: {first[:50]}{'…' if len(first) > 50 or first != text else ''}", timeout=2, markup=False)
