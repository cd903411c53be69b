"""A prompt's text to edit, and at once what the edited one does beside the original on development rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static, TextArea
from textual.worker import get_current_worker

from engine import figures
from engine.errors import EngineError
from tui import actions
from tui.resident import Resident
from tui.screens.dialogs import Dialog
from tui.widgets.states import mark

ROWS = 100
FILLED = "{text} is filled in by row"
CHAT = "\na chat: a line <system>, <user> or <assistant> begins each turn"
CHATS = ("<system>\n", "<user>\n")
"""what the text of a chat begins with"""


class TryScreen(Dialog[None]):
    """`request` names the run's profile and step, the original text and where the models go; the rest is said here."""

    scope: ClassVar[str] = "editor"
    BINDINGS = actions.bindings("editor")

    def __init__(
        self, name: str, request: dict[str, Any], models: Sequence[tuple[str, str]], resident: Resident, note: str = ""
    ) -> None:
        super().__init__()
        self.title_of, self.request, self.note = f"Edit · {name}", request, note
        self.models, self.resident = models, resident
        self.lines: dict[str, dict[str, Any]] = {}
        self.told = ""
        self.going = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide edit"):
            yield TextArea(self.request["original"], soft_wrap=True, id="prompt-text")
            yield Static(id="tried")
            chat = CHAT if self.request["original"].startswith(CHATS) else ""
            yield Static(Text(FILLED + chat, "bright_black"))

    def on_mount(self) -> None:
        self._show()

    @property
    def target(self) -> TextArea:
        return self.query_one(TextArea)

    @property
    def text(self) -> str:
        return self.target.text

    def do_score(self) -> None:
        if self.going:
            self.notify(self.keys.text("still scoring; {back@line} ends it"), severity="warning", timeout=3)
            return
        self.lines, self.told, self.going = {}, "starting the worker", True
        self._show()
        self._score({**self.request, "text": self.text, "rows": ROWS, "models": [source for _, source in self.models]})

    @work(thread=True, group="try", exclusive=True)
    def _score(self, request: dict[str, Any]) -> None:
        worker = get_current_worker()
        told = ""
        try:
            for line in self.resident.said(request):
                if worker.is_cancelled:
                    return
                self.app.call_from_thread(self._take, line)
        except (EngineError, OSError) as error:
            told = "\n".join(error.lines()) if isinstance(error, EngineError) else f"error: {error}"
        if not worker.is_cancelled:
            self.app.call_from_thread(self._end, told)

    def _take(self, line: dict[str, Any]) -> None:
        self.told = "loading the model" if "loading" in line else ""
        self.lines[line["model"]] = line
        self._show()

    def _end(self, told: str) -> None:
        self.going, self.told = False, told
        self._show()

    def _show(self) -> None:
        text = Text()
        for label, source in self.models:
            if "edited" in (line := self.lines.get(source, {})):
                text.append_text(result(label, line))
        if self.told:
            text.append(f"{self.told}\n", "red" if self.told.startswith("error") else "bright_black")
        elif not self.lines:
            text.append(f"{self.note or 'Not scored yet.'}\n", "bright_black")
        self.query_one("#tried", Static).update(text)

    def why_not(self, name: str) -> str | None:
        return "there is no text" if name == "copy_text" and not self.text else super().why_not(name)

    def do_copy_text(self) -> None:
        self.copy_text(self.text)

    def do_back(self) -> None:
        if self.going:
            self.workers.cancel_group(self, "try")
            self.resident.close()
        super().do_back()


def result(label: str, line: dict[str, Any]) -> Text:
    """What one model did with both texts, in three lines."""
    rows = f"{line['rows']} of {line['of']} development rows · {figures.duration(line['seconds'])}\n"
    text = Text.assemble((f"{label:<11}", "bold"), (rows, "bright_black"))
    for name in ("original", "edited"):
        found = line[name]
        shown = figures.quality(line["metric"], found["value"], found["low"], found["high"])
        text.append(f"  {name:<9}{shown}  {found['tokens']} tokens\n")
    if "verdict" in line:
        text.append_text(mark(line["verdict"]))
        apart = figures.difference(line["difference"], line["low"], line["high"], line["metric"])
        text.append(f"  {apart}, p {figures.p_value(line['p_value'])}\n")
    return text
