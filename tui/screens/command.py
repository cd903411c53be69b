"""The command line that `:` opens at the foot of a screen: what may follow, earlier lines, what is wrong, in place."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from engine.errors import EngineError
from tui import actions, completion, grammar, recent
from tui.screens.dialogs import Dialog
from tui.widgets.line import Line
from tui.widgets.states import elide
from tui.widgets.typed import TypedLine

OFFERED = 6


class CommandLine(Dialog[grammar.Command]):
    """Answers the command that was typed; `source` is the model at hand."""

    scope: ClassVar[str] = "command"
    BINDINGS = actions.bindings("command")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._earlier = ["", *reversed(recent.read(recent.COMMANDS))]
        self._at = 0
        self._typed = ""
        self._choice = -1
        self._offered: dict[str, str] = {}
        """the words that may follow what was typed, each with its help"""

    def compose(self) -> ComposeResult:
        with Vertical(id="command-line"):
            yield Static(id="offers")
            yield TypedLine(placeholder="prune 0.6 · eval sst2 · ask a question · help", id="command", compact=True)
            yield Line(id="command-keys")

    def on_mount(self) -> None:
        self._offer()

    @property
    def target(self) -> TypedLine:
        return self.query_one(TypedLine)

    def name_filter(self, text: str) -> None:
        """It has no frame."""

    def show_keys(self) -> None:
        about = f" · about {self.source.rstrip('/').rsplit('/', 1)[-1]}"
        keys = self.hints(self.size.width - 2 - len(about))
        self.query_one("#command-keys", Line).put(Text(f"{keys}{about}", "bright_black"))

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.value != self._shown:
            self._typed, self._choice = event.value, -1
            self._offer()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        line = event.value.strip()
        try:
            command = grammar.parse(line, self.source)
        except (EngineError, OSError) as error:
            lines = error.lines() if isinstance(error, EngineError) else [f"error: {error}"]
            self.query_one("#offers", Static).update(Text("\n".join(lines), "red"))
            return
        recent.add(recent.COMMANDS, line)
        self.dismiss(command)

    def do_complete(self) -> None:
        self._complete(1)

    def do_complete_back(self) -> None:
        self._complete(-1)

    def _complete(self, way: int) -> None:
        """Puts in the next of the words that may follow; the only one is taken whole."""
        offered = list(self._offered)
        if not offered:
            return
        self._choice = (self._choice + way) % len(offered) if self._choice >= 0 or way > 0 else len(offered) - 1
        line = completion.completed(self._typed, offered[self._choice])
        if len(offered) == 1:
            self._typed, self._choice = line, -1
        self._put(line)

    def do_earlier(self) -> None:
        self._recall(1)

    def do_recent(self) -> None:
        self._recall(-1)

    def _recall(self, way: int) -> None:
        self._at = min(max(0, self._at + way), len(self._earlier) - 1)
        self._typed, self._choice = self._earlier[self._at], -1
        self._put(self._typed)

    @property
    def _shown(self) -> str:
        """The line as this screen wrote it last: typed, or with a choice put in."""
        if self._choice < 0:
            return self._typed
        return completion.completed(self._typed, list(self._offered)[self._choice])

    def _put(self, line: str) -> None:
        self.target.value = line
        self.target.action_end()
        self._offer()

    def _offer(self) -> None:
        """Shows a few of the words that may follow, the chosen one marked."""
        if self._choice < 0:
            self._offered = completion.complete(self._typed)
        offered = list(self._offered.items())
        first = max(0, min(self._choice - OFFERED // 2, len(offered) - OFFERED))
        width = max((len(name) for name, _ in offered[first : first + OFFERED]), default=0) + 2
        text = Text(no_wrap=True, overflow="ellipsis")
        for index, (name, help_text) in list(enumerate(offered))[first : first + OFFERED]:
            mark = "▸ " if index == self._choice else "  "
            text.append(f"{mark}{name:<{width}}", "bold cyan" if index == self._choice else "cyan")
            text.append(f"{elide(help_text, self.size.width - width - 4)}\n", "bright_black")
        if len(offered) > OFFERED:
            text.append(f"  {len(offered)} words may follow", "bright_black")
        self.query_one("#offers", Static).update(text)
