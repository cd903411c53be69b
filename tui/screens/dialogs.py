"""The dialogs: a question with a few answers, a line to type, a text to read. All close with esc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

CLOSE = Binding("escape", "close", "close")
Answers = Sequence[tuple[str, str, str]]


class Choice(ModalScreen[str | None], inherit_bindings=False):
    """A question; each answer is (key, value, text), the first one is the default."""

    BINDINGS = [CLOSE, Binding("j", "move('down')"), Binding("k", "move('up')")]

    def __init__(self, question: str, answers: Answers, text: str = "") -> None:
        super().__init__()
        assert not {key for key, _, _ in answers} & {"j", "k"}, "these move"
        self.question, self.answers, self.text = question, answers, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question, "bold"))
            if self.text:
                yield Static(Text(self.text), classes="dialog-text")
            yield OptionList(*(Option(Text(f"{key}  {text}"), id=value) for key, value, text in self.answers))
            yield Static(Text("enter chooses · esc goes back", "bright_black"))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self.query_one(OptionList).highlighted = 0

    def on_key(self, event: events.Key) -> None:
        for key, value, _ in self.answers:
            if event.character == key:
                event.stop()
                self.dismiss(value)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_move(self, way: str) -> None:
        getattr(self.query_one(OptionList), f"action_cursor_{way}")()

    def action_close(self) -> None:
        self.dismiss(None)


class Ask(ModalScreen[str | None], inherit_bindings=False):
    """One line to type; `check` says what is wrong with it, or None. Up and down go through the answers `known` before.

    `preview` says while one types what the line would come to.
    """

    BINDINGS = [CLOSE, Binding("up", "recall(1)"), Binding("down", "recall(-1)")]
    more: ClassVar[str] = ""
    """keys that the last line names besides"""

    def __init__(
        self,
        question: str,
        value: str = "",
        *,
        hint: str = "",
        known: Sequence[str] = (),
        preview: Callable[[str], str] | None = None,
        check: Callable[[str], str | None],
    ) -> None:
        super().__init__()
        self.preview = preview
        self.question, self.value, self.hint, self.check = question, value, hint, check
        self.known = [value, *(entry for entry in known if entry != value)]
        self._at = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question, "bold"))
            yield Input(self.value)
            yield Static(id="problem")
            yield Static(id="preview")
            recall = " · ↑ ↓ earlier ones" if len(self.known) > 1 else ""
            yield Static(Text(self.hint or f"enter accepts{recall}{self.more} · esc goes back", "bright_black"))

    def action_recall(self, way: int) -> None:
        self._at = (self._at + way) % len(self.known)
        self.query_one(Input).value = self.known[self._at]
        self.query_one(Input).action_end()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        problem = self.check(event.value.strip())
        if problem is None:
            self.dismiss(event.value.strip())
        else:
            self.query_one("#problem", Static).update(Text(f"✗ {problem}", "red"))

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#problem", Static).update("")
        if self.preview:
            self.query_one("#preview", Static).update(Text(self.preview(event.value)))

    def action_close(self) -> None:
        self.dismiss(None)


def printed(text: str) -> Text:
    """What a program printed: its colours, and nothing else that a terminal would obey; lines it wrote over are all kept."""
    return Text.from_ansi(text.replace("\r\n", "\n").replace("\r", "\n"))


class Reader(ModalScreen[None], inherit_bindings=False):
    """A text to scroll through; `y` copies it."""

    BINDINGS = [
        CLOSE,
        Binding("q,enter,question_mark", "close", "close"),
        Binding("y", "copy", "copy"),
        Binding("j", "move('scroll_down')"),
        Binding("k", "move('scroll_up')"),
        Binding("g", "move('scroll_home')"),
        Binding("G", "move('scroll_end')"),
    ]

    def __init__(self, heading: str, text: Text) -> None:
        super().__init__()
        self.heading, self.text = heading, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as frame:
            frame.border_title, frame.border_subtitle = self.heading, "j k move · y copy · esc close"
            with VerticalScroll():
                yield Static(self.text)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_move(self, way: str) -> None:
        getattr(self.query_one(VerticalScroll), f"action_{way}")()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.text.plain)
        self.notify("copied", timeout=2)

    def action_close(self) -> None:
        self.dismiss(None)
