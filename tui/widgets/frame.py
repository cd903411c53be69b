"""The frame of every screen: the bar on top with modes and run, the key line below, the notice of a small terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text
from textual import events
from textual.widgets import Static

from engine import figures
from engine.state import RunState
from tui.actions import Action
from tui.follow import Follower
from tui.widgets.line import Line
from tui.widgets.states import elide, mark

SMALLEST = (50, 16)
TIGHT = 60
"""columns below which the modes stand close together, so that there is room for the run's state"""

SEPARATOR = " · "
SHORTEST = 12
"""columns from which a model's name is cut and not left out"""
SHOWN = ("doing", "profile", "model", "device", "memory")
"""what stands beside the run's state, from left to right"""


class ActionBar(Line):
    """A line whose parts do actions when they are clicked."""

    async def on_click(self, event: events.Click) -> None:
        name = event.style.meta.get("act")
        if name:
            await self.app.run_action(f"app.act('{name}')")


class TopBar(ActionBar):
    """Modes on the left, what the run is doing on the right."""

    def show(self, modes: Sequence[Action], mode: str, follower: Follower | None, paused: bool) -> None:
        left, end = Text(), "" if self.size.width < TIGHT else " "
        for action in modes:
            style = Style(bold=True, reverse=True) if action.name == mode else Style()
            left.append(f" {action.key} {action.label}{end}", style + Style(meta={"act": action.name}))
        room = self.size.width - left.cell_len - 1
        right = _run_line(follower, paused, room)
        gap = max(1, self.size.width - left.cell_len - right.cell_len - 1)
        text = Text.assemble(left, " " * gap, right, no_wrap=True, overflow="ellipsis")
        self.put(text)


def _run_line(follower: Follower | None, paused: bool, room: int) -> Text:
    """The run's state, then what there is room for: what matters most is taken first, each in the longest form that fits."""
    if follower is None:
        return Text("compress-tui" if room < 20 else "compress-tui · no run open", style="bright_black")
    state, line = follower.state, [mark("paused") if paused else mark(follower.status)]
    source, found = state.source.rsplit("/", 1)[-1], dict.fromkeys(SHOWN, "")
    left = room - line[0].cell_len
    forms = {
        "model": [source, elide(source, left - len(SEPARATOR), "end") if left > SHORTEST else ""],
        "device": [state.model.device if state.model else ""],
        "memory": _memory(follower),
        "doing": _doing(state),
        "profile": [state.profile if state.profile != source else ""],
    }
    for name, options in forms.items():
        if any(options):
            found[name] = next((text for text in options if text and len(SEPARATOR) + len(text) <= left), "")
            left = left - len(SEPARATOR) - len(found[name]) if found[name] else 0  # nothing less in its place
    return Text(SEPARATOR, "bright_black").join([*line, *(Text(text) for text in found.values() if text)])


def _memory(follower: Follower) -> list[str]:
    """What the worker holds, and on a graphics card beside it."""
    if not follower.going or not follower.usage:
        return []
    now = follower.usage[-1]
    held = figures.size(now.memory)
    if now.card_memory is None:
        return [held]
    card = f"{figures.size(now.card_memory)} GPU"
    return [f"{held} + {card}", card, figures.size(now.card_memory)]


def _doing(state: RunState) -> list[str]:
    step = state.steps.get(state.current) if state.current is not None else None
    if step is None or step.status != "running":
        return []
    return [f"{step.use} {step.done}/{step.total}", f"{100 * step.done // step.total}%"] if step.total else [step.use]


class FootBar(ActionBar):
    """The keys of the screen, `?` first; what cannot be done now is dimmed and says why when pressed."""

    def show(self, actions: Sequence[tuple[Action, bool]]) -> None:
        text = Text(no_wrap=True)
        for action, possible in actions:
            item = Text.assemble(
                (f" {action.key}", Style(bold=possible, color="cyan" if possible else "bright_black")),
                (f" {action.label} ", Style(color=None if possible else "bright_black", dim=not possible)),
            )
            if text.cell_len + item.cell_len > self.size.width:
                break
            item.stylize(Style(meta={"act": action.name}))
            text.append_text(item)
        self.put(text)


class TooSmall(Static):
    """Covers the screen while the terminal is smaller than what can be shown."""

    def show(self, width: int, height: int) -> bool:
        """Says what is needed; True when the terminal is too small."""
        small = width < SMALLEST[0] or height < SMALLEST[1]
        if small:
            self.update(f"terminal too small\nneeded: {SMALLEST[0]}x{SMALLEST[1]}, now: {width}x{height}")
        return small
