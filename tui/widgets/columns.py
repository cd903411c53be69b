"""The columns of a live table: what they show and how, and which of them fit a width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.text import Text

PADDING = 2
SCROLLBAR = 1


@dataclass(frozen=True)
class Column:
    """A column: raw values under `key`, shown by `show`. Width 0 takes what the others leave (one column only).

    Left out: below a table width of `least` and above one of `most`; `optional` ones while no row has a value; the
    largest `least` first while the column without a width has less than `room`. `keep` names the end that stays of a text
    that is too long.
    """

    key: str
    label: str
    width: int = 0
    show: Callable[[Any], str | Text] = str
    numeric: bool = False
    least: int = 0
    most: int = 0
    keep: str = "start"
    sortable: bool = True
    optional: bool = False
    room: int = 6


class Shown(NamedTuple):
    """A value whose text depends on its row: sorted by `order`, shown and filtered as `text`."""

    order: Any
    text: str

    def __str__(self) -> str:
        return self.text


def fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """The columns that a table of `width` shows, and what is left for the one without a width."""
    shown = [column for column in columns if column.least <= width <= (column.most or width)]
    room = max((column.room for column in shown if not column.width), default=0)
    while True:
        left = width - sum(c.width for c in shown) - PADDING * len(shown) - SCROLLBAR
        droppable = [column for column in shown if column.width and column.least]
        if left >= room or not droppable:
            return shown, max(6, left)
        shown.remove(max(droppable, key=lambda column: column.least))
