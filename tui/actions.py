"""The one table of actions: key bindings, footer, help screen and command palette are all made from it.

An action called `name` is carried out by the method `do_name` of the screen, else of the app; `why_not(name)` of either
says why it cannot be done now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from textual.binding import Binding, BindingType
from textual.keys import _character_to_key

SCREENS = ("inspect", "run", "prompts", "profiles")
SHOWN_KEYS = {
    "question_mark": "?",
    "slash": "/",
    "escape": "esc",
    "ctrl+p": "ctrl+p",
    "left": "←",
    "right": "→",
    "colon": ":",
    "equals_sign": "=",
    "up": "↑",
    "down": "↓",
    "shift+up": "shift+↑",
    "shift+down": "shift+↓",
}


@dataclass(frozen=True)
class Action:
    """One thing a key does. `keys` are Textual's names, the first is the one shown; `footer`: listed in the footer."""

    name: str
    keys: str
    label: str
    help: str
    screens: tuple[str, ...] = SCREENS
    footer: bool = True

    @property
    def key(self) -> str:
        """The key as people write it."""
        return " ".join(SHOWN_KEYS.get(key, key) for key in self.keys.split(",")[:1])

    @property
    def every_key(self) -> str:
        return " ".join(SHOWN_KEYS.get(key, key) for key in self.keys.split(","))


ACTIONS = (
    Action("help", "question_mark", "help", "Show every key of this screen"),
    Action("quit", "q,ctrl+c", "quit", "Leave; while a run is going: detach, cancel or stay"),
    Action("open", "enter", "run", "Start the profile; in Form: change; in Shares: store", ("profiles",)),
    Action("queue", "Q", "queue", "Start it when the runs before it have ended", ("profiles",)),
    Action("edit", "e", "change", "Change a field of the form, checked as you type", ("profiles",)),
    Action("steps", "a", "steps", "Add, remove and reorder steps", ("profiles",)),
    Action(
        "differences", "equals_sign", "compare", "Show how it differs from another profile", ("profiles",), footer=False
    ),
    Action("undo", "u", "undo", "Take the last change back; in Shares: what is not stored", ("profiles",)),
    Action("save", "w", "save as", "Save the profile with its changes, comments kept", ("profiles",)),
    Action("duplicate", "D", "duplicate", "Copy the profile to a new file of this folder", ("profiles",)),
    Action("inspect_model", "i", "model", "Inspect the profile's model", ("profiles",)),
    Action("left", "h,left", "block left", "Shares: go to the block on the left", ("profiles",), footer=False),
    Action("right", "l,right", "block right", "Shares: go to the block on the right", ("profiles",), footer=False),
    Action("raise", "K,shift+up", "more", "Shares: 5% more of the block goes (k, up: 1%)", ("profiles",), footer=False),
    Action("lower", "J,shift+down", "less", "Shares: 5% less of it goes (j, down: 1%)", ("profiles",), footer=False),
    Action(
        "balance",
        "b",
        "balance",
        "Shares: move the blocks left alone to meet the target",
        ("profiles",),
        footer=False,
    ),
    Action("next_step", "n", "next step", "Shares: edit the next prune step", ("profiles",), footer=False),
    Action(
        "open",
        "enter",
        "open",
        "Open a branch or a detail; with nothing open: the demo model",
        ("inspect",),
    ),
    Action("model", "m", "model", "Open a model: a folder, a file, a name of the hub, demo", ("inspect",)),
    Action("what_if", "t", "what if", "Try a sparsity and bits: what the model would take", ("inspect",)),
    Action("compare", "equals_sign", "compare", "Compare with another model, matrix by matrix", ("inspect",)),
    Action("expand", "E", "expand", "Open or close all branches", ("inspect",)),
    Action("open", "enter", "explain", "The row, or all steps, in full; in Log: the worker's output", ("run",)),
    Action("open", "enter", "open", "Open the row: its pane, or an example with both answers", ("prompts",)),
    Action("differ", "f", "which", "Examples: different, better by one prompt, or all", ("prompts",)),
    Action("edit", "e", "edit", "Edit the prompt and score it at once on development rows", ("prompts",)),
    Action("export", "w", "write", "Write the table (.md .csv .json) or a prompt (.txt)", ("prompts",)),
    Action("pause", "space", "pause", "Stop and go on with updating the screen; the run goes on", ("run", "prompts")),
    Action("cancel", "x", "cancel", "Ask the run to stop; again: insist; a third time: kill it", ("run", "prompts")),
    Action("detach", "d", "detach", "Leave the app, the run goes on", ("run", "prompts")),
    Action("resume", "r", "resume", "Go on with a cancelled, failed or crashed run", ("run",)),
    Action(
        "headless", "Y", "copy command", "Copy the command that repeats it without the screen", ("run",), footer=False
    ),
    Action(
        "headless",
        "Y",
        "copy command",
        "Copy the command that starts it without the screen",
        ("profiles",),
        footer=False,
    ),
    Action("artifacts", "p", "artifacts", "All exports of this model, and which are worth having", ("run", "profiles")),
    Action("report", "R", "report", "Read the run's report, as far as it goes", ("run",)),
    Action("folder", "F", "files", "The run's files: read one, copy its path", ("run",)),
    Action("curve", "c", "curve", "Show the next curve of the chart", ("run",)),
    Action("sort", "s", "sort", "Sort by the next column; in Shares: store the strip"),
    Action("reverse", "S", "reverse", "Sort the other way round", footer=False),
    Action("filter", "slash", "filter", "Show only rows that contain what you type"),
    Action("runs", "o", "runs", "List all runs and open one"),
    Action("next_pane", "tab", "pane", "Go to the next pane"),
    Action("previous_pane", "shift+tab", "previous pane", "Go to the previous pane", footer=False),
    Action("copy", "y", "copy", "Copy the row or text to your clipboard (OSC 52, also by SSH)"),
    Action("back", "escape", "back", "Clear the filter, then go back to the first pane", footer=False),
    Action("down", "j,down", "down", "Move down; in Shares: 1% less", footer=False),
    Action("up", "k,up", "up", "Move up; in Shares: 1% more", footer=False),
    Action("top", "g", "top", "Go to the first row", footer=False),
    Action("bottom", "G", "bottom", "Go to the last row", footer=False),
    Action("inspect", "1", "Inspect", "The model: matrices, shapes, sizes, sparsity", footer=False),
    Action("run", "2", "Run", "The run: steps, layers, chart, figures, log", footer=False),
    Action("prompts", "3", "Prompts", "The prompts, on the dense and on the compressed model", footer=False),
    Action("profiles", "4", "Profiles", "The profiles: preview, check, change, start", footer=False),
    Action("theme", "T", "theme", "Choose the colours", footer=False),
    Action("command", "colon", "command", "Type a command: prune 0.6, eval sst2, ask a question", footer=False),
    Action("palette", "ctrl+p", "commands", "Search everything that can be done", footer=False),
)
MODES = tuple(action for action in ACTIONS if action.name in SCREENS)


def for_screen(screen: str, keys: Mapping[str, str] = MappingProxyType({})) -> list[Action]:
    """What can be done on a screen, in the order of the footer; `keys` replaces the keys of the actions it names."""
    return remapped((action for action in ACTIONS if screen in action.screens), keys)


def remapped(found: Iterable[Action], keys: Mapping[str, str]) -> list[Action]:
    """The actions with the user's own keys."""
    return [replace(action, keys=keys[action.name]) if action.name in keys else action for action in found]


def key_name(written: str) -> str:
    """Textual's name of a key that people write: ? is question_mark, esc is escape."""
    names = {shown: name for name, shown in SHOWN_KEYS.items()}
    return names.get(written) or (_character_to_key(written) if len(written) == 1 else written.lower())


def bindings(screen: str) -> list[BindingType]:
    """The key bindings of a screen; `app.act` looks first whether the action can be done."""
    return [
        Binding(
            action.keys,
            f"app.act('{action.name}')",
            action.label,
            show=action.footer,
            tooltip=action.help,
            id=action.name,
        )  # fmt: skip
        for action in for_screen(screen)
    ]
