"""A framed part of a screen, and the line that names the panes that do not fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from rich.style import Style
from rich.text import Text
from textual import events
from textual.containers import Vertical
from textual.geometry import Region
from textual.markup import escape
from textual.message import Message
from textual.widget import Widget
from textual.widgets import DataTable, Static

from tui.widgets.line import Line

EDGES = ("title", "subtitle", "left", "right")


class Pane(Vertical):
    """A titled frame around one widget. A `side` pane stays beside the others where two panes fit; one that is not `needed`
    is left out until it has something to show.
    """

    def __init__(self, *children: Widget, title: str, widget_id: str, side: bool = False, needed: bool = True) -> None:
        super().__init__(*children, id=widget_id)
        self.label, self.side, self.needed = title, side, needed
        self._explained = ""
        self._words: Static | None = None
        self._said: dict[str, str | Text] = {}
        self._edges: tuple[str, ...] = EDGES
        self.say(title=title)

    def say(self, *, title: str | Text | None = None, subtitle: str | Text | None = None) -> None:
        """Puts texts, brackets as they are, into the upper and the lower edge of the frame; None, and what is there already,
        changes nothing.
        """
        for name, text in (("title", title), ("subtitle", subtitle)):
            if text is not None and self._said.get(name) != text:
                self._said[name], self._edges = text, (name,)
                setattr(self, f"border_{name}", escape(text) if isinstance(text, str) else text)
                self._edges = EDGES

    def explain(self, text: str) -> None:
        """Says in the place of what is not there yet what will be, or what to do; "" takes it away."""
        if text == self._explained:
            return
        self._explained = text
        if self._words is None:
            self._words = Static(text, classes="nothing-yet", markup=False)
            self.mount(self._words, before=0)
        else:
            self._words.update(text)
            self._words.display = bool(text)
        for table in self.query(DataTable):
            table.show_header = not text

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """A pane draws its frame alone: a new title repaints that and not everything inside, at every look at the run."""
        size = self.outer_size
        if not regions and not layout and not recompose and size.width > 1 and size.height > 1:
            width, height = size  # places are counted from the corner inside the frame
            edges = {
                "title": Region(-1, -1, width, 1),
                "subtitle": Region(-1, height - 2, width, 1),
                "left": Region(-1, -1, 1, height),
                "right": Region(width - 2, -1, 1, height),
            }
            regions = tuple(edges[name] for name in self._edges)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def target(self) -> Widget | None:
        """The widget of the pane that takes the keys."""
        return next((child for child in self.walk_children(Widget) if child.can_focus and child.display), None)


class PaneBar(Line):
    """Names all panes behind the `key` that goes through them, marks the ones that are shown; there only when some are not."""

    class Chosen(Message):
        """A pane's name was clicked."""

        def __init__(self, pane_id: str) -> None:
            super().__init__()
            self.pane_id = pane_id

    def show(self, panes: Iterable[Pane], active: Pane, key: str) -> None:
        text = Text(f" {key} ", style="bright_black")
        for pane in panes:
            style = Style(bold=True, reverse=True) if pane is active else Style(dim=not pane.display)
            text.append(f" {pane.label} ", style + Style(meta={"pane": pane.id}))
            text.append(" ")
        self.put(text)

    def on_click(self, event: events.Click) -> None:
        pane_id = event.style.meta.get("pane")
        if pane_id:
            self.post_message(self.Chosen(pane_id))
