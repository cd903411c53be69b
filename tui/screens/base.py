"""What all four screens share: frame, following the run, sorting, filtering, copying.

A screen says what its panes are (`compose_body`), how a run's state fills them (`show_state`) and which actions it
cannot do now (`why_not`). How panes are laid out is in `panes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Static

from engine.state import RunState
from tui import actions
from tui.follow import Follower
from tui.screens.panes import PaneScreen
from tui.widgets.frame import FootBar, TooSmall, TopBar
from tui.widgets.pane import PaneBar

NO_RUN = "No run is open.\n\n{profiles}  choose a profile and start it: demo is ready\n{runs}  choose one of the earlier runs"


class WorkScreen(PaneScreen):
    """One of the four modes."""

    needs_run: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(self.scope)
        self.follower: Follower | None = None
        self._seen: tuple[object, ...] = ()
        self.opened = asyncio.Event()
        self._listed: list[actions.Action] = []

    @property
    def ready(self) -> bool:
        """Whether its panes are there."""
        return self.opened.is_set()

    def compose(self) -> ComposeResult:
        self.name_width(self.app.size.width, update=False)  # before there are widgets to style
        yield TopBar(id="top")
        yield PaneBar(id="pane-bar")
        yield Static(id="empty")
        with Container(id="body"):
            yield from self.compose_body()
        yield self.filter_line()
        yield FootBar(id="foot")
        yield TooSmall(id="too-small")

    def compose_body(self) -> Iterator[Widget]:
        """The panes, in columns; none in a screen that does not say which."""
        yield from ()

    def show_state(self, state: RunState) -> None:
        """Fills the panes from a run's state; called when the state changed."""

    def show_time(self, state: RunState, now: float) -> None:
        """Redraws what changes without events: rates, remaining time."""

    def empty_text(self) -> str | None:
        """What to say instead of the panes while there is nothing to show."""
        if self.needs_run and self.tui.follower is None:
            return self.keys.markup(NO_RUN)
        return None

    def why_not(self, name: str) -> str | None:
        """Why an action cannot be done now, None when it can."""
        if self.empty_text() is not None and name in (
            "sort",
            "reverse",
            "filter",
            "next_pane",
            "previous_pane",
            "copy",
        ):
            return "there is nothing here yet"
        if name in ("sort", "reverse") and self.sortable is None:
            return f"nothing to sort in {self.active.label}"
        if name == "reverse" and (fixed := self.sortable and self.sortable.fixed()):
            return self.keys.text(fixed)
        if name == "filter" and self.filterable is None:
            return f"nothing to filter in {self.active.label}"
        if name == "copy" and not self.copied():
            return f"nothing to copy in {self.active.label}"
        return super().why_not(name)

    def worded(self, action: actions.Action) -> actions.Action:
        """An action as the footer names it in the pane that has the keys."""
        return action

    # life

    def on_mount(self) -> None:
        self._listed = [action for action in self.keys.of(self.scope) if action.footer]
        self.opened.set()
        self._main = next(pane for pane in self.panes if not pane.side)
        self._active = self.home
        self.lay_out()
        self.call_after_refresh(self.focus_target)
        self.update_view()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self.update_view()

    def on_resize(self, event: events.Resize) -> None:
        small = self.query_one(TooSmall).show(event.size.width, event.size.height)
        self.set_class(small, "-too-small")
        if self.ready:
            self.cover()
            self.lay_out()
            self._seen = ()
            self.call_after_refresh(self.update_view)

    def update_view(self) -> None:
        """Brings the screen up to date with the app's run; cheap when nothing happened."""
        if self.ready:
            with suppress(NoMatches):  # a screen that is closing has lost some of its widgets
                self._update_frame()
                self._show_run()

    def _update_frame(self) -> None:
        modes = [self.keys.put(action) for action in actions.MODES]
        self.query_one(TopBar).show(modes, self.scope, self.tui.follower, self.tui.paused)
        empty = self.empty_text()
        if (empty is not None) != self.vacant:
            self.vacant = empty is not None
            self.cover()
            self.lay_out()
            self.call_after_refresh(self.focus_target)
        if empty is not None and empty != self.query_one("#empty", Static).content:
            self.query_one("#empty", Static).update(empty)
        listed = [(self.worded(action), self.tui.why_not(action.name) is None) for action in self._listed]
        self.query_one(FootBar).show(listed)

    def _show_run(self) -> None:
        follower = self.tui.follower
        if follower is None:
            return
        state = follower.state
        seen = (follower, state.seq, state.status, state.failure)
        if seen != self._seen:
            if follower is not self.follower:
                self.follower = follower
                self.new_run(follower)
            self._seen = seen
            self.show_state(state)
        self.show_time(state, self.tui.now())

    def pane_changed(self) -> None:
        self._seen = ()

    def new_run(self, follower: Follower) -> None:
        """Forgets what belonged to the run shown before."""

    # filtering

    def name_filter(self, text: str) -> None:
        self.active.say(title=f"{self.active.label} /{text}" if text else self.active.label)

    def do_back(self) -> None:
        if self.unfilter():
            return
        if self.active is not self.home:
            self.activate(self.home)
        else:
            self.focus_target()
