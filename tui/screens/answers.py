"""The answers of the dense and the compressed model to one question, side by side, as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from engine import figures
from engine.errors import EngineError
from tui import actions
from tui.grammar import Ask
from tui.resident import Resident
from tui.screens.dialogs import Dialog
from tui.widgets.states import elide
from tui.widgets.typed import Scroll


class AnswersScreen(Dialog[None]):
    """Asks when it opens; closing it before the end ends the worker too."""

    scope: ClassVar[str] = "answers"
    BINDINGS = actions.bindings("answers")

    def __init__(
        self, question: Ask, models: Sequence[tuple[str, str]], resident: Resident, place: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.question, self.models, self.resident, self.place = question, models, resident, place
        self.answers = {source: "" for _, source in models}
        self.told = dict.fromkeys(self.answers, "waiting")
        self.ended = False
        self.title_of = elide(question.text, 80)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            with Horizontal():
                for index, (label, _) in enumerate(self.models):
                    with Scroll(classes="answer") as column:
                        column.border_title = label
                        yield Static(id=f"answer-{index}")
            yield Static(id="problem")

    def on_mount(self) -> None:
        self._show()
        self._ask()

    @work(thread=True, group="ask", exclusive=True)
    def _ask(self) -> None:
        worker = get_current_worker()
        try:
            for line in self.resident.ask(self.question.text, self.question.tokens, list(self.answers), self.place):
                if worker.is_cancelled:
                    return
                self.app.call_from_thread(self._take, line)
        except (EngineError, OSError) as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._fail, error)
        self.ended = True

    def _take(self, line: dict[str, Any]) -> None:
        source = line["model"]
        if "piece" in line:
            self.answers[source] += line["piece"]
            self.told[source] = "writing"
        elif "loading" in line:
            self.told[source] = "loading the model"
        else:
            rate = line["tokens"] / line["seconds"] if line["seconds"] else 0.0
            took = figures.duration(line["seconds"])
            self.told[source] = f"✓ {line['tokens']} tokens · {took} · {figures.number(rate, 1)}/s"
        self._show()

    def _fail(self, error: EngineError | OSError) -> None:
        lines = error.lines() if isinstance(error, EngineError) else [f"error: {error}"]
        self.query_one("#problem", Static).update(Text("\n".join(lines), "red"))

    def _show(self) -> None:
        for index, (_, source) in enumerate(self.models):
            shown = self.query_one(f"#answer-{index}", Static)
            shown.update(Text(self.answers[source]))
            column = shown.query_ancestor(Scroll)
            column.border_subtitle = self.told[source]
            column.scroll_end(animate=False)

    @property
    def target(self) -> Widget:
        """The column that was chosen, else the first."""
        return self.focused or self.query(Scroll).first()

    def copied(self) -> str:
        said = "\n\n".join(f"{label}: {self.answers[source]}" for label, source in self.models)
        return f"{self.question.text}\n\n{said}"

    def do_back(self) -> None:
        if not self.ended:
            self.workers.cancel_group(self, "ask")
            self.resident.close()
        super().do_back()
