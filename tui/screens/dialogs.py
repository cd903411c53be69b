"""The dialogs: a question with a few answers, a line to type, a text to read; what all dialogs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static

from tui import actions
from tui.screens.keyed import Answer, KeyedScreen
from tui.widgets.typed import Options, Scroll, TypedLine


class Dialog(ModalScreen[Answer | None], KeyedScreen[Answer | None], inherit_bindings=False):
    """A frame of class `dialog` with a title above, and its keys in the lower edge. Answers None when it is closed."""

    title_of = ""

    def on_mount(self) -> None:
        self.name_filter("")
        self.focus_target()

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_keys)

    def show_keys(self) -> None:
        """As many keys as there is room for."""
        frame = self.query_one(".dialog")
        frame.border_subtitle = Text(self.hints(frame.outer_size.width - 6))

    def hints(self, width: int) -> str:
        """The keys of what can be done here, as many as fit."""
        found = [action for action in self.keys.of(self.scope) if action.footer and self.why_not(action.name) is None]
        return fitting((f"{action.key} {action.label}" for action in found), width)

    def name_filter(self, text: str) -> None:
        self.query_one(".dialog").border_title = Text(f"{self.title_of} /{text}" if text else self.title_of)

    def why_not(self, name: str) -> str | None:
        return "nothing to copy" if name == "copy" and not self.copied() else super().why_not(name)

    def do_back(self) -> None:
        self.dismiss(None)


def fitting(parts: Iterable[str], width: int) -> str:
    """The parts in a line, without those at the end that it has no room for."""
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


class Choice(Dialog[str]):
    """A question; each answer is an action and its text, the first one is the default. Answers the action's name."""

    scope: ClassVar[str] = "question"
    BINDINGS = actions.bindings("question")

    def __init__(self, question: str, answers: Sequence[tuple[str, str]], text: str = "") -> None:
        super().__init__()
        self.question, self.answers, self.text = question, dict(answers), text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question, "bold"))
            if self.text:
                yield Static(Text(self.text), classes="dialog-text")
            yield Options()

    def on_mount(self) -> None:
        self.target.show({name: f"{self.keys[name]}\t{text}" for name, text in self.answers.items()})

    @property
    def target(self) -> Options:
        return self.query_one(Options)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def do_open(self) -> None:
        self.target.action_select()

    def _answer(self, name: str) -> None:
        if name in self.answers:
            self.dismiss(name)

    def do_yes(self) -> None:
        self._answer("yes")

    def do_no(self) -> None:
        self._answer("no")

    def do_kill(self) -> None:
        self._answer("kill")

    def do_leave(self) -> None:
        self._answer("leave")

    def do_stop(self) -> None:
        self._answer("stop")

    def do_stay(self) -> None:
        self._answer("stay")


class Ask(Dialog[str]):
    """One line to type; `check` says what is wrong with it, or None. Two keys go through the answers `known` before.

    `preview` says while one types what the line would come to.
    """

    scope: ClassVar[str] = "line"
    BINDINGS = actions.bindings("line")

    def __init__(
        self,
        question: str,
        value: str = "",
        *,
        known: Sequence[str] = (),
        preview: Callable[[str], str] | None = None,
        check: Callable[[str], str | None],
    ) -> None:
        super().__init__()
        self.preview = preview
        self.question, self.value, self.check = question, value, check
        self.known = [value, *(entry for entry in known if entry != value)]
        self._at = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question, "bold"))
            yield TypedLine(self.value)
            yield Static(id="problem")
            yield Static(id="preview")

    @property
    def target(self) -> TypedLine:
        return self.query_one(TypedLine)

    def why_not(self, name: str) -> str | None:
        if name in ("earlier", "recent") and len(self.known) < 2:
            return "there are no earlier ones"
        return super().why_not(name)

    def do_earlier(self) -> None:
        self._recall(1)

    def do_recent(self) -> None:
        self._recall(-1)

    def _recall(self, way: int) -> None:
        self._at = (self._at + way) % len(self.known)
        self.target.value = self.known[self._at]
        self.target.action_end()

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


def printed(text: str) -> Text:
    """What a program printed: its colours, and nothing else that a terminal would obey; lines it wrote over are all kept."""
    return Text.from_ansi(text.replace("\r\n", "\n").replace("\r", "\n"))


class Reader(Dialog[None]):
    """A text to scroll through and copy."""

    scope: ClassVar[str] = "text"
    BINDINGS = actions.bindings("text")

    def __init__(self, heading: str, text: Text) -> None:
        super().__init__()
        self.title_of, self.text = heading, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"), Scroll():
            yield Static(self.text)

    @property
    def target(self) -> Widget:
        return self.query_one(Scroll)

    def copied(self) -> str:
        return self.text.plain
