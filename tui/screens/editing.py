"""The part of the Profiles screen that changes a profile's steps and shows how two profiles differ."""

from __future__ import annotations

from engine.errors import EngineError, ProfileError, UsageError
from tui import stepedits
from tui.screens.dialogs import Reader
from tui.screens.shares import SharesScreen
from tui.screens.steps import Pick, Steps
from tui.widgets import drafts


class EditingScreen(SharesScreen):
    """A screen of drafts."""

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
