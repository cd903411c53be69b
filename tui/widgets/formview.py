"""The form of a profile: a row a key with what is wrong in its place, what the marked key means, the line that changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tui.widgets.columns import Column
from tui.widgets.line import Line
from tui.widgets.table import LiveTable
from tui.widgets.typed import FieldLine

if TYPE_CHECKING:
    from engine.errors import Problem
    from tui.fields import ProfileField

SIGNS = {
    "wrong": ("✗", "red"),
    "changed": ("~", "yellow"),
    "set": ("●", "cyan"),
    "default": ("·", "bright_black"),
}


def _sign(state: str) -> Text:
    return Text(*SIGNS[state])


ROOMY = 54
"""columns of a form that says what its fields mean beside them; else the marked one's line below does"""
COLUMNS = (
    Column("state", "", 1, _sign, sortable=False),
    Column("key", "key", 20, keep="end", least=ROOMY),
    Column("key", "key", keep="end", most=ROOMY - 1),
    Column("value", "value", 14),
    Column("about", "what is wrong, or what it means", least=ROOMY),
)


class FormView(Vertical):
    """The fields of one profile. A key may be marked in the table or typed in the line: the other one follows."""

    def __init__(self) -> None:
        super().__init__(id="form")
        self._fields: dict[str, ProfileField] = {}
        self._wrong: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        yield LiveTable(COLUMNS, widget_id="fields")
        yield Static(id="form-help")
        yield VerticalScroll(Static("reading the profiles …", id="check"), can_focus=False)
        yield FieldLine(placeholder="step.0.sparsity=0.6", id="change", compact=True)
        yield Line(Text(" ● set · default ~ changed ✗ wrong", "bright_black"))

    @property
    def table(self) -> LiveTable:
        return self.query_one("#fields", LiveTable)

    @property
    def line(self) -> FieldLine:
        return self.query_one(FieldLine)

    @property
    def marked(self) -> ProfileField | None:
        """The field under the cursor."""
        return self._fields.get(self.table.selected or "")

    def show(
        self, fields: Sequence[ProfileField], problems: Sequence[Problem], changes: Mapping[str, str], report: Text
    ) -> None:
        """Shows the fields as they are, `changes` {key: value as typed} on them, and the problems at their keys."""
        self._fields = {field.key: field for field in fields}
        self._wrong = {key: _told(problem) for problem in problems if (key := self._row_of(problem.key))}
        self.table.show({field.key: self._row(field, changes.get(field.key)) for field in fields})
        self.query_one("#check", Static).update(report)
        self.explain()

    def fill(self) -> None:
        """Puts the marked field into the line."""
        if field := self.marked:
            self.line.value = f"{field.key}={field.value}"
            self.line.action_end()

    def mark(self, key: str) -> None:
        """Puts the cursor on a field, where it is one."""
        if key in self._fields and key != self.table.selected:
            self.table.select(key)

    def explain(self) -> None:
        """What the marked field is."""
        text = Text()
        if field := self.marked:
            wrong = self._wrong.get(field.key)
            text = Text.assemble((f"{wrong}\n" if wrong else "", "red"), (f"{field.kind}\n", "cyan"), field.help)
        self.query_one("#form-help", Static).update(text)

    def _row(self, field: ProfileField, change: str | None) -> dict[str, Any]:
        wrong = self._wrong.get(field.key)
        state = "wrong" if wrong else "changed" if change is not None else "set" if field.given else "default"
        value = field.value if change is None else change
        return {"state": state, "key": field.key, "value": value, "about": wrong or field.help}

    def _row_of(self, key: str) -> str:
        """The field that a problem stands at: of its key, or of the table that the key is in."""
        while key and key not in self._fields:
            key = key.rpartition(".")[0]
        return key


def _told(problem: Problem) -> str:
    return f"✗ {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
