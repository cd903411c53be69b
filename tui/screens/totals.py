"""The part of the Inspect screen that says what the whole model takes, and what it would take."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from engine.errors import UsageError
from tui import whatif
from tui.screens.dialogs import Ask
from tui.screens.weighing import WeighingScreen
from tui.widgets import comparison, modeltext
from tui.widgets.pane import Pane
from tui.widgets.typed import Scroll


class TotalsScreen(WeighingScreen):
    """A screen with the totals of its model."""

    def __init__(self) -> None:
        super().__init__()
        self._what_if = ""

    def totals_pane(self) -> Pane:
        return Pane(Scroll(Static(id="totals")), title="Totals", widget_id="totals-pane", side=True)

    def show_totals(self, what_if: str | None = None) -> None:
        """Shows the model's totals and below them what it would take, as `what_if` says from now on."""
        if self.summary is None:
            return
        if what_if is not None:
            self._what_if = what_if
        text = modeltext.totals(self.summary, comparison.sparsity(self.by_name, self.zeros, self.most))
        if self._what_if:
            text.append_text(Text.assemble(("\nWhat if\n", "underline"), self._what_if))
        self.query_one("#totals", Static).update(text)

    def do_what_if(self) -> None:
        """Asks for a sparsity and a width and shows at once what they would come to."""
        summary = self.summary
        if summary is None:
            return

        def preview(text: str) -> str:
            try:
                return "\n".join(whatif.table(summary, whatif.parse(text)))
            except UsageError as error:
                return "\n".join(error.lines())

        def answered(text: str | None) -> None:
            if text is not None:
                self.show_totals("\n".join(whatif.narrow(summary, whatif.parse(text))))
                self.query_one("#totals-pane Scroll", Scroll).scroll_end(animate=False)

        ask = Ask("What if all matrices of the blocks were …", whatif.EXAMPLE, preview=preview, check=whatif.problem)
        self.app.push_screen(ask, answered)
