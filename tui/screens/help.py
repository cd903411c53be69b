"""The help screen's text, made from the table of actions."""

from __future__ import annotations

from rich.text import Text

from tui import actions, settings
from tui.actions import Keys
from tui.screens.dialogs import Reader
from tui.widgets.states import LOOKS, mark

STATES = ("waiting", "queued", "running", "done", "failed", "crashed", "cancelled", "gate missed")


def help_screen(screen: str, keys: Keys) -> Reader:
    """Every key of a screen or dialog: what only this screen has, then what all have, then the signs."""
    found = keys.of(screen)
    own = [action for action in found if action.screens != actions.SCREENS]
    rest = [action for action in found if action.screens == actions.SCREENS]
    text = Text()
    for heading, group in ((screen.capitalize(), own), ("Everywhere", rest)):
        if not group:
            continue
        text.append(f"{heading}\n", "bold underline")
        for action in group:
            text.append(f"  {action.every_key:<9} ", "cyan bold")
            text.append(f"{action.help}\n")
        text.append("\n")
    text.append("Signs\n", "bold underline")
    for state in STATES:
        if state in LOOKS:
            text.append_text(Text.assemble("  ", mark(state), "\n"))
    text.append("\nYour own keys and theme\n", "bold underline")
    text.append(
        f"  {settings.file()}\n  [keys]\n  {found[0].name} = '{found[0].key}'   # an action, and its key\n  actions: "
    )
    text.append(", ".join(dict.fromkeys(action.name for action in found)), "bright_black")
    return Reader(f"Keys of {screen.capitalize()}", text)
