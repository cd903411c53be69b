"""The steps of a profile as a list to add to, remove from and reorder; answers the profile's new text."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import stepedits
from tui.screens.dialogs import CLOSE

MOVES = [Binding("j", "cursor('down')"), Binding("k", "cursor('up')")]


class Listed(ModalScreen[str | None], inherit_bindings=False):
    """A list with the cursor on j and k; enter answers the marked entry."""

    BINDINGS = [CLOSE, *MOVES]
    heading, keys = "", "enter chooses · esc goes back"

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static(Text(self.heading, "bold"))
            yield OptionList()
            yield Static(Text(self.keys, "bright_black"))

    @property
    def list(self) -> OptionList:
        return self.query_one(OptionList)

    def on_mount(self) -> None:
        self.list.focus()

    def action_cursor(self, way: str) -> None:
        getattr(self.list, f"action_cursor_{way}")()

    def action_close(self) -> None:
        self.dismiss(None)


class Pick(Listed):
    """One of several entries, {value: line}, with the cursor on the `marked` one, else the first; answers the value."""

    def __init__(self, heading: str, entries: Mapping[str, str], marked: str = "") -> None:
        super().__init__()
        self.heading, self.entries, self.marked = heading, entries, marked

    def on_mount(self) -> None:
        for value, line in self.entries.items():
            self.list.add_option(Option(Text(line), id=value))
        self.list.highlighted = list(self.entries).index(self.marked) if self.marked else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Steps(Listed):
    """The steps of one profile; nothing is taken over before enter."""

    heading = "Steps, in order"
    keys = "a adds below · x removes · J K moves down, up · enter takes it over · esc leaves all as it was"
    BINDINGS = [
        Binding("a", "add"),
        Binding("x", "remove"),
        Binding("J,shift+down", "move(1)"),
        Binding("K,shift+up", "move(-1)"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def on_mount(self) -> None:
        self._show(0)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self.text)

    @property
    def _at(self) -> int:
        return self.list.highlighted or 0

    def action_add(self) -> None:
        from engine.registry import STEPS

        at = self._at + 1 if stepedits.names(self.text) else 0

        def chosen(use: str | None) -> None:
            if use:
                self._take(stepedits.add(self.text, at, use), at)

        width = max(map(len, STEPS))
        about = {name: (entry.options_model().__doc__ or "").partition("\n")[0] for name, entry in STEPS.items()}
        kinds = {name: f"{name:<{width}}  {text}" for name, text in about.items()}
        self.app.push_screen(Pick("Which step?", kinds), chosen)

    def action_remove(self) -> None:
        if stepedits.names(self.text):
            self._take(stepedits.remove(self.text, self._at), max(0, self._at - 1))

    def action_move(self, way: int) -> None:
        to = self._at + way
        if 0 <= to < len(stepedits.names(self.text)):
            self._take(stepedits.move(self.text, self._at, to), to)

    def _take(self, text: str, at: int) -> None:
        self.text = text
        self._show(at)

    def _show(self, at: int) -> None:
        names = stepedits.names(self.text)
        self.list.clear_options()
        self.list.add_options([Option(f"{index}  {name}") for index, name in enumerate(names)] or [Option("no steps")])
        self.list.highlighted = at
