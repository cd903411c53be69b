"""How panes share the screen: all of them on a wide terminal, two on a normal one, one on a narrow one.

A screen's panes stand in containers of class `column`. This also moves the keys from pane to pane.
"""

from __future__ import annotations

from textual import events
from textual.widget import Widget

from tui.screens.keyed import KeyedScreen
from tui.widgets.pane import Pane, PaneBar

WIDE, NARROW = 120, 80


class PaneScreen(KeyedScreen[None], inherit_bindings=False):
    """A screen of panes in `#body` and a PaneBar; while it is `vacant`, `#empty` is there instead of them."""

    AUTO_FOCUS = ""

    def __init__(self, screen_id: str) -> None:
        super().__init__(id=screen_id)
        self.vacant = False
        self._active: Pane | None = None
        self._main: Pane | None = None

    @property
    def panes(self) -> list[Pane]:
        return [pane for pane in self.query(Pane) if pane.needed]

    def need(self, pane: Pane, needed: bool) -> None:
        """Takes a pane in, or leaves it out."""
        if pane.needed != needed:
            pane.needed = needed
            if pane is self.active and not needed:
                self._active = None
            self.lay_out()

    @property
    def active(self) -> Pane:
        """The pane that has the keys, or had them last."""
        return self._active or self.home

    @property
    def home(self) -> Pane:
        """The pane that the screen starts in, and that esc goes back to."""
        return next(pane for pane in self.panes if not pane.side)

    def pane_changed(self) -> None:
        """After the keys went to another pane, which may have been hidden."""

    def lay_out(self) -> None:
        """Shows all panes, two, or one, as the width allows."""
        panes, width = self.panes, self.size.width
        if not panes or not width:
            return
        for pane in self.query(Pane):
            two = pane.side or pane is self._main
            fits = width >= WIDE or (two if width >= NARROW else pane is self.active)
            pane.display = pane.needed and fits
        for column in self.query(".column"):
            column.display = any(pane.display for pane in column.query(Pane))
        self.name_width(width)
        bar = self.query_one(PaneBar)
        bar.display = not self._covered and not all(pane.display for pane in panes)
        bar.show(panes, self.active, self.keys["next_pane"])

    def name_width(self, width: int, *, update: bool = True) -> None:
        """Sets the class that rules of style name a width by; `update` styles what is there anew."""
        name = "-three" if width >= WIDE else "-two" if width >= NARROW else "-one"
        if not self.has_class(name):
            self.remove_class(*{"-three", "-two", "-one"} - {name}, update=False)
            self.add_class(name, update=update)

    @property
    def _covered(self) -> bool:
        return self.vacant or self.has_class("-too-small")

    def cover(self) -> None:
        """Shows the panes, or what there is to say instead, or neither where the terminal is too small."""
        self.query_one("#body").display = not self._covered
        self.query_one("#empty").display = self.vacant and not self.has_class("-too-small")

    def activate(self, pane: Pane, *, focus: bool = True) -> None:
        """Gives a pane the keys, showing it first when it is hidden."""
        self._active = pane
        if not pane.side:
            self._main = pane
        self.lay_out()
        self.pane_changed()
        if focus:
            self.call_after_refresh(self.focus_target)

    @property
    def target(self) -> Widget | None:
        return self.active.target()

    def focus_target(self) -> None:
        self.set_focus(None if self.vacant else self.target)

    def on_pane_bar_chosen(self, event: PaneBar.Chosen) -> None:
        self.activate(self.query_one(f"#{event.pane_id}", Pane))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        pane = next((node for node in event.widget.ancestors if isinstance(node, Pane)), None)
        if pane is not None and pane is not self._active:
            self.activate(pane, focus=False)

    def do_next_pane(self) -> None:
        self._step_pane(1)

    def do_previous_pane(self) -> None:
        self._step_pane(-1)

    def _step_pane(self, step: int) -> None:
        panes = self.panes
        self.activate(panes[(panes.index(self.active) + step) % len(panes)])
