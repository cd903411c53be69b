"""A failed or crashed run in a few lines: what happened, the last lines of the worker's output, what to do next."""

from __future__ import annotations

from rich.text import Text

from engine.events import RunFailed
from tui.actions import Keys


def told(failure: RunFailed, lines: int, keys: Keys) -> Text:
    """The failure with at most `lines` lines of what came with it; the line above says the run's state."""
    head, *rest = failure.message.splitlines() or [""]
    if failure.where not in (None, "crashed"):
        head = f"{failure.where}: {head}"
    text = Text(head, "bold")
    if len(rest) > lines:
        more = keys.text("lines more: {open} in the log shows the worker's output")
        text.append(f"\n… {len(rest) - lines} {more}", "bright_black")
    text.append("".join(f"\n{line}" for line in rest[-lines:]), "not bold")
    hints = (failure.hint or "").split("\nhint: ")
    for hint in (
        *(hint for hint in hints if hint and "--resume" not in hint),
        keys.text("{resume} goes on with it here"),
    ):
        text.append(f"\nhint: {hint}", "cyan")
    return text
