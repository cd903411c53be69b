"""The Profiles screen: the list, one as text, what is wrong with it, changes checked as they are typed, the start."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import DataTable

from engine.errors import EngineError, ProfileError
from engine.state import RunState
from tui import actions
from tui.follow import Glance
from tui.screens import saving
from tui.screens.dialogs import fitting
from tui.screens.editing import EditingScreen
from tui.shares import Shares
from tui.widgets import drafts
from tui.widgets.formview import FormView
from tui.widgets.line import Line
from tui.widgets.pane import Pane
from tui.widgets.sharesview import SharesView
from tui.widgets.states import elide
from tui.widgets.table import LiveTable
from tui.widgets.tomlview import TomlView

EVERY = 5.0
"""seconds between two looks at how the last runs stand"""
START = (
    "{open} runs the selected profile",
    "{edit} changes it",
    "{help} all keys",
    "a run goes on when the terminal closes",
)
OF_A_DRAFT = (
    "open", "queue", "artifacts", "edit", "save", "duplicate", "inspect_model",
    "undo", "headless", "steps", "differences",
)  # fmt: skip
"""actions that need a selected profile"""


class ProfilesScreen(EditingScreen):
    """Mode 4."""

    scope: ClassVar[str] = "profiles"
    BINDINGS = actions.bindings("profiles")

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Glance] = {}
        self.stored: dict[str, str] = {}
        """the texts as they were in the files when they were last read, by path"""

    def compose_body(self) -> Iterator[Widget]:
        yield Line(id="start-hint")
        with Horizontal(id="columns"):
            yield from self._columns()

    def _columns(self) -> Iterator[Widget]:
        with Vertical(classes="column", id="list-column"):
            yield Pane(
                LiveTable(drafts.COLUMNS, widget_id="profiles-table"),
                title="Profiles",
                widget_id="list-pane",
                side=True,
            )
            form = Pane(FormView(), title="Form", widget_id="form-pane")
            form.say(subtitle=Text(self.keys.text("{edit} edits · {accept@line} takes · {back@line} back")))
            yield form
        with Vertical(classes="column", id="text-column"):
            yield Pane(TomlView(), title="Text", widget_id="text-pane")
            yield Pane(SharesView(self.keys), title="Shares", widget_id="shares-pane")

    @property
    def home(self) -> Pane:
        return self.query_one("#list-pane", Pane)

    def on_mount(self) -> None:
        self.call_after_refresh(self.load)
        self.set_interval(EVERY, self.keep_looking)

    def on_resize(self, event: events.Resize) -> None:
        """As much of the hint as there is room for."""
        hint = fitting(map(self.keys.text, START), event.size.width - 2)
        self.query_one("#start-hint", Line).put(Text(hint))

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self.look_back()

    def keep_looking(self) -> None:
        if self.is_current:
            self.look_back()

    @work(group="last", exclusive=True)
    async def look_back(self) -> None:
        """How the newest run of every profile ended, or is going; and all profiles again where files have changed, but not
        under what is being typed.
        """
        self.last = await asyncio.to_thread(drafts.last_runs)
        now = await asyncio.to_thread(drafts.stored, self.tui.profile_ref)
        if self.stored and now not in ({}, self.stored) and not self.query_one(FormView).line.has_focus:
            self.load(self.query_one("#profiles-table", LiveTable).selected or "")
        else:
            self._list()

    @work(group="profiles", exclusive=True)
    async def load(self, select: str = "") -> None:
        """Reads and checks all profiles in a thread: the first import of the checker takes a while."""
        try:
            found, asked = await asyncio.to_thread(drafts.found, self.tui.profile_ref)
        except (EngineError, OSError, ValueError) as error:
            problem = error if isinstance(error, EngineError) else EngineError(f"cannot read the profiles: {error}")
            self.tui.complain(problem)
            return
        before, self.stored = self.drafts, {str(file.path): text for file, text in found}
        self.drafts = {str(file.path): drafts.Draft(file.path, text, file.shipped, []) for file, text in found}
        for key in self.drafts.keys() & before.keys():
            if before[key].before:  # its steps are of the old text
                self.drafts[key] = before[key]
            else:
                self.drafts[key].changes = before[key].changes
        self._list()
        table = self.query_one("#profiles-table", LiveTable)
        table.select(select or asked)
        self.show_draft()

    def why_not(self, name: str) -> str | None:
        draft = self.draft
        if name in OF_A_DRAFT and draft is None:
            return "no profile is selected"
        if name == "headless" and draft and draft.before:
            return "its steps are changed: no option says that, save it first"
        if name == "undo" and self.in_shares and self.strip and self.strip.changed:
            return None
        if name == "undo" and draft and not draft.changed:
            return self.keys.text("there is no change to take back: {edit} makes one")
        if name == "save" and draft and draft.changes and isinstance(draft.check(), ProfileError):
            return "the changes do not fit the profile as it is now; see Form"
        starts = name in ("queue", "artifacts") or (name == "open" and not self.in_shares and not self.in_form)
        if starts and draft and isinstance(problems := draft.check(), ProfileError):
            return f"the profile has {len(problems.problems)} problems; see Form"
        return super().why_not(name)

    def show_state(self, state: RunState) -> None:
        super().show_draft()

    def do_open(self) -> None:
        if self.in_shares:
            self.store()
        elif self.in_form:
            self.do_edit()
        else:
            self._start()

    def do_queue(self) -> None:
        self._start(queued=True)

    def _start(self, *, queued: bool = False) -> None:
        draft = self.draft
        checked = draft.check() if draft else None
        if draft is None or checked is None or isinstance(checked, ProfileError):
            return
        if drafts.on_disk(draft.path) not in (None, self.stored.get(str(draft.path))):
            self.notify(f"{draft.path.name} has changed: this is how it is now", severity="warning", markup=False)
            self.load(str(draft.path))
            return
        self.tui.start(checked, queued=queued)

    def do_undo(self) -> None:
        if self.in_shares and self.strip and self.strip.changed:
            self._edit(Shares.reset)
        elif self.draft:
            self.notify(f"took back {elide(self.draft.undo(), drafts.LONGEST)}", timeout=2, markup=False)
            self.show_draft()

    def do_inspect_model(self) -> None:
        draft = self.draft
        checked = draft.check() if draft else None
        if checked is not None and not isinstance(checked, ProfileError):
            self.tui.inspect_model(checked.model.source)

    def do_artifacts(self) -> None:
        checked = self.draft.check() if self.draft else None
        if checked is not None and not isinstance(checked, ProfileError):
            self.tui.show_artifacts(checked.model.source)

    def do_save(self) -> None:
        if self.draft:
            path = self.draft.path.name if self.draft.shipped else str(self.draft.path)
            self._ask_path("Save the profile as", path, self.draft.edited())

    def do_duplicate(self) -> None:
        if self.draft:
            self._ask_path("Copy the profile to", f"{self.draft.path.stem}-copy.toml", self.draft.text, rename=True)

    def do_headless(self) -> None:
        if self.draft:
            profile = self.draft.path.stem if self.draft.shipped else str(self.draft.path)
            words = ["compress-tui", "run", "--profile", profile]
            words += [word for change in self.draft.changes for word in ("--set", change)]
            self.copy_text(shlex.join(words))

    def copied(self) -> str:
        return self.draft.edited() if self.draft else ""

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.run_worker(self.tui.action_act("open"), group="act")

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "fields":
            self.show_field()
        else:
            self.show_draft()

    def _list(self) -> None:
        now = self.tui.now()
        rows = {key: drafts.row(draft, self.last.get(draft.name), now) for key, draft in self.drafts.items()}
        self.query_one("#profiles-table", LiveTable).show(rows)
        self.query_one("#list-pane", Pane).say(subtitle=f"{len(rows)} profiles")

    def show_draft(self, typed: str = "") -> None:
        """Shows the selected profile's text, what is wrong with it, and its strip."""
        draft = self.draft
        if draft is None:
            return
        self.show_form(draft, typed)
        self._list()
        changed = " · changed, not saved" if draft.changed else ""
        self.query_one("#text-pane", Pane).say(title=f"{draft.path.name}{changed}")
        self.show_text(draft.edited(typed))
        super().show_draft()

    def _ask_path(self, question: str, default: str, text: str, *, rename: bool = False) -> None:
        saving.ask(self.tui, question, default, [".toml"], lambda path: self._write(path, text, rename))

    @work(group="save", exclusive=True)
    async def _write(self, path: Path, text: str, rename: bool) -> None:
        from engine import profile

        try:
            text = profile.edit(text, {"name": path.stem}) if rename else text
        except ValueError as error:
            self.tui.complain(EngineError(f"cannot write: {error}", where=str(path)))
            return
        if not await saving.save(self.tui, path, text):
            return
        for draft in (None if rename else self.draft, self.drafts.get(str(path))):
            if draft:
                draft.changes, draft.before = [], []
        self.load(str(path))
