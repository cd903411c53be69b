"""Widgets whose keys are those of the table of actions: lines to type in, lists, texts that scroll."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tui import actions


class TypedLine(Input, inherit_bindings=False):
    """A line with Textual's keys for editing; what else a key does is said by the table."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in Input.BINDINGS if isinstance(binding, Binding) and binding.key != "enter"
    ]


class FilterLine(TypedLine):
    """The line that `filter` opens; what is typed filters at once."""

    BINDINGS: ClassVar[list[BindingType]] = actions.bindings("filter")


class FieldLine(TypedLine):
    """The line that changes a field of a form."""

    BINDINGS: ClassVar[list[BindingType]] = actions.bindings("field")


class Options(OptionList, inherit_bindings=False):
    """Entries to choose from, by the value that each stands for. What follows a tab in a line is a column of its own."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.filter_text = ""
        self._entries: Mapping[str, str] = {}

    @property
    def selected(self) -> str | None:
        """The value of the marked entry."""
        return None if self.highlighted is None else self.get_option_at_index(self.highlighted).id

    def show(self, entries: Mapping[str, str], marked: str | None = None) -> None:
        """Shows the entries with the cursor on the `marked` one, else the first."""
        self._entries = entries
        found = {value: line for value, line in entries.items() if self._matches(line)}
        self.clear_options()
        width = max((len(line.partition("\t")[0]) for line in entries.values()), default=0)
        self.add_options(Option(_laid_out(line, width), id=value) for value, line in found.items())
        self.highlighted = list(found).index(marked) if marked in found else 0 if found else None

    def filter_by(self, text: str) -> None:
        """Shows only the entries that contain every word of `text`."""
        marked, self.filter_text = self.selected, text
        self.show(self._entries, marked)

    def _matches(self, line: str) -> bool:
        return all(word in line.lower() for word in self.filter_text.lower().split())


def _laid_out(line: str, width: int) -> Text | Table:
    """The line; one with a tab as two columns, the first of this width, where what is long goes on below its beginning."""
    name, tab, about = line.partition("\t")
    if not tab:
        return Text(line)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=width, no_wrap=True)
    grid.add_column()
    grid.add_row(Text(name), Text(about))
    return grid


class Scroll(VerticalScroll, inherit_bindings=False):
    """What is higher than the screen."""
