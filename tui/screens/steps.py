"""The steps of a profile as a list to add to, remove from and reorder; answers the profile's new text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList

from tui import actions, stepedits
from tui.screens.dialogs import Dialog
from tui.widgets.typed import Options


class Listed(Dialog[str]):
    """A dialog around a list."""

    @property
    def target(self) -> Options:
        return self.query_one(Options)

    def do_open(self) -> None:
        self.target.action_select()


class Pick(Listed):
    """One of several entries, {value: line}, with the cursor on the `marked` one, else the first; answers the value."""

    scope: ClassVar[str] = "list"
    BINDINGS = actions.bindings("list")

    def __init__(self, heading: str, entries: Mapping[str, str], marked: str | None = None) -> None:
        super().__init__()
        self.title_of, self.entries, self.marked = heading, entries, marked

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Options()
            yield self.filter_line()

    def on_mount(self) -> None:
        self.target.show(self.entries, self.marked)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def do_back(self) -> None:
        if not self.unfilter():
            super().do_back()


class Steps(Listed):
    """The steps of one profile; nothing is taken over before enter."""

    scope: ClassVar[str] = "steps"
    BINDINGS = actions.bindings("steps")
    title_of = "Steps, in order"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Options()

    def on_mount(self) -> None:
        self._show(0)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self.text)

    @property
    def _at(self) -> int:
        return self.target.highlighted or 0

    def do_add(self) -> None:
        from engine.registry import STEPS

        at = self._at + 1 if stepedits.names(self.text) else 0

        def chosen(use: str | None) -> None:
            if use:
                self._take(stepedits.add(self.text, at, use), at)

        kinds = {name: f"{name}\t{entry.summary()}" for name, entry in STEPS.items()}
        self.app.push_screen(Pick("Which step?", kinds), chosen)

    def do_remove(self) -> None:
        if stepedits.names(self.text):
            self._take(stepedits.remove(self.text, self._at), max(0, self._at - 1))

    def do_sooner(self) -> None:
        self._move_step(-1)

    def do_later(self) -> None:
        self._move_step(1)

    def _move_step(self, way: int) -> None:
        to = self._at + way
        if 0 <= to < len(stepedits.names(self.text)):
            self._take(stepedits.move(self.text, self._at, to), to)

    def _take(self, text: str, at: int) -> None:
        self.text = text
        self._show(at)

    def _show(self, at: int) -> None:
        steps = {str(index): f"{index}  {name}" for index, name in enumerate(stepedits.names(self.text))}
        self.target.show(steps or {"": "no steps"}, str(at))
