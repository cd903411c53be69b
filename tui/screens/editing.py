"""The part of the Profiles screen that changes a profile, its fields in a form and its steps, and shows how two differ."""

from __future__ import annotations

from dataclasses import replace

from textual.widgets import Input

from engine.errors import EngineError, ProfileError, UsageError
from tui import stepedits
from tui.actions import Action
from tui.screens.dialogs import Reader
from tui.screens.shares import SharesScreen
from tui.screens.steps import Pick, Steps
from tui.widgets import drafts
from tui.widgets.formview import FormView
from tui.widgets.pane import Pane
from tui.widgets.tomlview import TomlView


class EditingScreen(SharesScreen):
    """A screen of drafts."""

    @property
    def in_form(self) -> bool:
        return self.active.id == "form-pane"

    def activate(self, pane: Pane, *, focus: bool = True) -> None:
        """Where two panes fit, the form has the text beside it, and the others the list."""
        listed, text = self.query_one("#list-pane", Pane), self.query_one("#text-pane", Pane)
        text.side = pane.id == "form-pane" or (pane is text and text.side)
        listed.side = not text.side
        super().activate(pane, focus=focus)

    def worded(self, action: Action) -> Action:
        changes = self.in_form and action.name == "open"
        return replace(action, label="change") if changes else super().worded(action)

    # the form

    def do_edit(self) -> None:
        """Puts the marked field into the line; with the keys in the line, up and down go to the next field."""
        form = self.query_one(FormView)
        self.activate(self.query_one("#form-pane", Pane), focus=False)
        self.call_after_refresh(form.line.focus)
        form.fill()

    def do_up(self) -> None:
        super().do_up()
        self._refill()

    def do_down(self) -> None:
        super().do_down()
        self._refill()

    def _refill(self) -> None:
        form = self.query_one(FormView)
        if form.line.has_focus:
            form.fill()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "change":
            self.query_one(FormView).mark(event.value.partition("=")[0].strip())
            self.show_draft(self._typed())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        draft, change = self.draft, self._typed()
        if event.input.id != "change" or draft is None:
            return
        if not change:
            self.focus_target()
        elif not isinstance(draft.check(change), ProfileError):
            self.take(change)
            self.query_one(FormView).fill()

    def _typed(self) -> str:
        """The change in the line, "" where it changes nothing."""
        form = self.query_one(FormView)
        change, marked = form.line.value.strip(), form.marked
        return "" if marked and change == f"{marked.key}={marked.value}" else change

    def show_form(self, draft: drafts.Draft, typed: str) -> None:
        """Shows the fields of a draft and what is wrong with them; `typed` is a change that is not entered yet."""
        from tui import fields

        checked = draft.check(typed)
        problems = checked.problems if isinstance(checked, ProfileError) else []
        changes = [change.partition("=") for change in (*draft.changes, typed) if change]
        typed_values = {key.strip(): value.strip() for key, _, value in changes}
        report = drafts.report(draft, checked)
        self.query_one(FormView).show(fields.of(draft.edited()), problems, typed_values, report)

    def show_field(self) -> None:
        """What the marked field means, and its place in the text."""
        self.query_one(FormView).explain()
        self.show_text(self.query_one(TomlView).shown)

    def show_text(self, text: str) -> None:
        """Shows a profile's text, in the form with the marked field's line brought up."""
        from tui import fields

        marked = self.query_one(FormView).marked if self.in_form else None
        self.query_one(TomlView).show(text, fields.line_of(text, marked.key) if marked else None)

    # the steps

    def do_steps(self) -> None:
        """Adds, removes and reorders steps in a dialog."""
        draft = self.draft
        if draft is None:
            return
        if isinstance(problem := draft.check(), ProfileError) and draft.changes:
            self.tui.complain(problem)
            return
        try:
            stepedits.names(draft.edited())
        except UsageError as error:
            self.tui.complain(error)
            return

        def answered(text: str | None) -> None:
            if text is not None and text != draft.edited():
                draft.restep(text)
                self.show_draft()

        self.app.push_screen(Steps(draft.edited()), answered)

    def do_differences(self) -> None:
        """Shows the lines that another profile, or this one as it is stored, has otherwise."""
        draft = self.draft
        if draft is None:
            return

        def chosen(key: str | None) -> None:
            if key is not None:
                self._compare(draft, self.drafts[key])

        stored = {
            key: f"{one.path.stem}{', as it is stored' if one is draft else ''}" for key, one in self.drafts.items()
        }
        self.app.push_screen(Pick(f"Compare {draft.path.stem} with", stored), chosen)

    def _compare(self, draft: drafts.Draft, other: drafts.Draft) -> None:
        try:
            text = other.path.read_text(encoding="utf-8") if other is draft else other.edited()
        except (OSError, ValueError) as error:  # gone meanwhile, or no text
            reason = error.strerror if isinstance(error, OSError) else error
            self.tui.complain(EngineError(f"cannot read: {reason}", where=str(other.path)))
            return
        self.app.push_screen(Reader("Differences", drafts.differences(other.path.name, text, draft)))
