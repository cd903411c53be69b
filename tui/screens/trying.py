"""A prompt's text to edit, and at once what the edited one does beside the original on development rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea
from textual.worker import get_current_worker

from engine import figures
from engine.errors import EngineError
from tui.resident import Resident
from tui.widgets.states import mark

ROWS = 100
HINT = "ctrl+r scores · ctrl+o copies · esc closes · {text} is filled in by row"
CHAT = "\na chat: a line <system>, <user> or <assistant> begins each turn"
CHATS = ("<system>\n", "<user>\n")
"""what the text of a chat begins with"""


class TryScreen(ModalScreen[None], inherit_bindings=False):
    """`request` names the run's profile and step, the original text and where the models go; the rest is said here."""

    BINDINGS = [
        Binding("escape", "close", "close"),
        Binding("ctrl+r", "score", "score"),
        Binding("ctrl+o", "copy", "copy"),
    ]

    def __init__(
        self, name: str, request: dict[str, Any], models: Sequence[tuple[str, str]], resident: Resident, note: str = ""
    ) -> None:
        super().__init__()
        self.heading, self.request, self.models, self.resident, self.note = name, request, models, resident, note
        self.lines: dict[str, dict[str, Any]] = {}
        self.told = ""
        self.going = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide edit") as frame:
            frame.border_title = f"Edit · {self.heading}"
            yield TextArea(self.request["original"], soft_wrap=True, id="prompt-text")
            yield Static(id="tried")
            chat = CHAT if self.request["original"].startswith(CHATS) else ""
            yield Static(Text(HINT + chat, "bright_black"))

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()
        self._show()

    @property
    def text(self) -> str:
        return self.query_one(TextArea).text

    def action_score(self) -> None:
        if self.going:
            self.notify("still scoring; esc ends it", severity="warning", timeout=3)
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

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.text)
        self.notify("copied", timeout=2)

    def action_close(self) -> None:
        if self.going:
            self.workers.cancel_group(self, "try")
            self.resident.close()
        self.dismiss(None)


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
