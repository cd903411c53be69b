"""The help screen's text, made from the table of actions."""

from __future__ import annotations

from rich.text import Text

from tui import actions
from tui.screens.dialogs import Reader
from tui.widgets.states import LOOKS, mark

STATES = ("waiting", "running", "done", "failed", "crashed", "cancelled", "gate missed")


def help_screen(screen: str) -> Reader:
    """Every key of a screen: what only this screen has first, then what all have, then the signs."""
    found = actions.for_screen(screen)
    own = [action for action in found if action.screens != actions.SCREENS]
    rest = [action for action in found if action.screens == actions.SCREENS]
    text = Text()
    for heading, group in ((screen.capitalize(), own), ("Everywhere", rest)):
        text.append(f"{heading}\n", "bold underline")
        for action in group:
            text.append(f"  {action.every_key:<10}", "cyan bold")
            text.append(f"{action.help}\n")
        text.append("\n")
    text.append("Signs\n", "bold underline")
    for state in STATES:
        if state in LOOKS:
            text.append_text(Text.assemble("  ", mark(state), "\n"))
    return Reader(f"Keys of {screen.capitalize()}", text)
