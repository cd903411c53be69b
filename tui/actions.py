"""The one table of actions: key bindings, footer, hints, help screen and command palette are all made from it.

An action called `name` is carried out by the method `do_name` of the screen or dialog, else of the app; `why_not(name)` of
either says why it cannot be done now. A text on the screen that names a key says which action it means: `Keys.text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from textual.binding import Binding, BindingType
from textual.markup import escape

from tui import keys

SCREENS = ("inspect", "run", "prompts", "profiles")
TABLES, LISTS = ("runs", "files", "artifacts", "folders"), ("list", "steps")
LINES = ("line", "model_line", "command", "filter", "field", "editor")
"""where people type: keys that write a character do nothing else there"""
DIALOGS = ("question", *LISTS, "text", *TABLES, "answers", *LINES)
MOVING = ("question", *LISTS, "text", *TABLES, "answers")


@dataclass(frozen=True)
class Action:
    """One thing a key does. `keys` are Textual's names, the first is the one shown; `screens` are screens and dialogs;
    `footer`: listed in the footer, in a dialog in the lower edge of its frame.
    """

    name: str
    keys: str
    label: str
    help: str
    screens: tuple[str, ...] = SCREENS
    footer: bool = True

    @property
    def id(self) -> str:
        """What the user's keys are found by: where people type, an action has keys apart from those elsewhere."""
        return f"{self.name}@line" if self.screens[0] in LINES else self.name

    @property
    def key(self) -> str:
        """The key as people write it."""
        return keys.shown(self.keys.partition(",")[0])

    @property
    def every_key(self) -> str:
        return " ".join(keys.shown(key) for key in self.keys.split(","))


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
    Action("raise", "K,shift+up", "more", "Shares: 5% more of the block goes", ("profiles",), footer=False),
    Action("lower", "J,shift+down", "less", "Shares: 5% less of the block goes", ("profiles",), footer=False),
    Action("balance", "b", "balance", "Shares: move the others to meet the target", ("profiles",), footer=False),
    Action("next_step", "n", "next step", "Shares: edit the next prune step", ("profiles",), footer=False),
    Action("open", "enter", "open", "Open a branch or detail; with nothing open: the demo model", ("inspect",)),
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
    Action("copy", "y", "copy", "Copy the row or text to the clipboard (OSC 52, also by SSH)"),
    Action("back", "escape", "back", "Clear the filter, then go back to the first pane", footer=False),
    Action("down", "j,down", "down", "Move down; in Shares: 1% less", footer=False),
    Action("up", "k,up", "up", "Move up; in Shares: 1% more", footer=False),
    Action("top", "g,home", "top", "Go to the first row", footer=False),
    Action("bottom", "G,end", "bottom", "Go to the last row", footer=False),
    Action("page_down", "pagedown", "page down", "Go one page down", footer=False),
    Action("page_up", "pageup", "page up", "Go one page up", footer=False),
    Action("inspect", "1", "Inspect", "The model: matrices, shapes, sizes, sparsity", footer=False),
    Action("run", "2", "Run", "The run: steps, layers, chart, figures, log", footer=False),
    Action("prompts", "3", "Prompts", "The prompts, on the dense and on the compressed model", footer=False),
    Action("profiles", "4", "Profiles", "The profiles: preview, check, change, start", footer=False),
    Action("theme", "T", "theme", "Choose the colours", footer=False),
    Action("command", "colon", "command", "Type a command: prune 0.6, eval sst2, ask a question", footer=False),
    Action("palette", "ctrl+p", "commands", "Search everything that can be done", footer=False),
)
IN_DIALOGS = (
    Action("help", "question_mark", "help", "Show every key of this dialog", (*LISTS, *TABLES)),
    Action("open", "enter", "choose", "Choose the marked answer", ("question", "list")),
    Action("open", "enter", "take over", "Take the steps over into the profile", ("steps",)),
    Action("open", "enter", "open", "Open the run", ("runs", "artifacts")),
    Action("open", "enter", "read", "Read the file, if it is text", ("files",)),
    Action("open", "enter", "open", "Choose the model, or go into the folder", ("folders",)),
    Action("leave_folder", "h,left,backspace", "up", "Go to the folder above", ("folders",)),
    Action("enter_folder", "l,right", "into", "Go into the folder", ("folders",)),
    Action("hidden", "full_stop", "hidden ones", "Show also what begins with a dot, or leave it out", ("folders",)),
    Action("back", "escape", "go back", "Leave everything as it was", ("question", *LISTS)),
    Action("back", "escape,q", "close", "Clear the filter, then close", (*TABLES, "answers")),
    Action("back", "escape,q,enter,question_mark", "close", "Close the text", ("text",)),
    Action("add", "a", "add below", "Add a step below the marked one", ("steps",)),
    Action("remove", "x", "remove", "Remove the marked step", ("steps",)),
    Action("beside", "c", "compare", "Compare with the run that is marked next", ("runs",)),
    Action("cancel", "x", "cancel", "Ask the run to stop, or take it out of the queue", ("runs",)),
    Action("sooner", "K,shift+up", "move up", "Move it up, in the queue to an earlier place", ("steps", "runs")),
    Action("later", "J,shift+down", "move down", "Move it down, in the queue to a later place", ("steps", "runs")),
    Action("filter", "slash", "filter", "Show only rows that contain what you type", ("list", *TABLES)),
    Action("sort", "s", "sort", "Sort by the next column", TABLES),
    Action("reverse", "S", "reverse", "Sort the other way round", TABLES, footer=False),
    Action("copy", "y", "copy", "Copy the run's name to your clipboard", ("runs",)),
    Action("copy", "y", "copy path", "Copy the path to your clipboard", ("files", "artifacts", "folders")),
    Action("copy", "y", "copy", "Copy the text to your clipboard", ("text", "answers")),
    Action("down", "j,down", "down", "Move down", MOVING),
    Action("up", "k,up", "up", "Move up", MOVING),
    Action("top", "g,home", "top", "Go to the beginning", MOVING, footer=False),
    Action("bottom", "G,end", "bottom", "Go to the end", MOVING, footer=False),
    Action("page_down", "pagedown", "page down", "Go one page down", MOVING, footer=False),
    Action("page_up", "pageup", "page up", "Go one page up", MOVING, footer=False),
    Action("yes", "y", "yes", "Answer yes", ("question",), footer=False),
    Action("no", "n", "no", "Answer no", ("question",), footer=False),
    Action("kill", "exclamation_mark", "kill", "Kill the run", ("question",), footer=False),
    Action("leave", "d", "detach", "Leave, the run goes on", ("question",), footer=False),
    Action("stop", "c", "cancel", "Stop the run, then leave", ("question",), footer=False),
    Action("stay", "s", "stay", "Stay here", ("question",), footer=False),
    Action("accept", "enter", "accept", "Take what is typed", ("line", "model_line", "command", "filter", "field")),
    Action("browse", "tab", "folders", "Look for it in folders", ("model_line",)),
    Action("complete", "tab", "complete", "Put in the next word that may follow", ("command",)),
    Action("complete_back", "shift+tab", "complete back", "Put in the one before", ("command",), footer=False),
    Action("earlier", "up", "earlier ones", "Go to the line typed before", ("line", "model_line", "command")),
    Action(
        "recent", "down", "newer ones", "Go to the line typed after", ("line", "model_line", "command"), footer=False
    ),
    Action("down", "down", "next", "Go to the next field", ("field",)),
    Action("up", "up", "previous", "Go to the field before", ("field",)),
    Action("score", "ctrl+r", "score", "Score the text beside the original", ("editor",)),
    Action("copy_text", "ctrl+o", "copy", "Copy the text to your clipboard", ("editor",)),
    Action("back", "escape", "go back", "Leave everything as it was", LINES),
)
MODES = tuple(action for action in ACTIONS if action.name in SCREENS)
EVERY = (*ACTIONS, *IN_DIALOGS)


@dataclass(frozen=True)
class Keys:
    """The keys that hold: the user's `own` by action (Textual's names, with commas), else those of the table."""

    own: Mapping[str, str] = field(default_factory=dict)

    def of(self, screen: str) -> list[Action]:
        """What can be done on a screen or in a dialog, in the order of its footer."""
        return [self.put(action) for action in EVERY if screen in action.screens]

    def put(self, action: Action) -> Action:
        """An action with the keys that hold."""
        own = self.own.get(action.name, "").split(",")
        if action.id != action.name:
            own = [key for key in own if key and not keys.types(key)]
        return replace(action, keys=",".join(own)) if any(own) else action

    def __getitem__(self, action_id: str) -> str:
        """The key of an action as people write it."""
        return self.put(next(action for action in EVERY if action.id == action_id)).key

    def text(self, text: str) -> str:
        """A text with the keys of the actions that it names in braces."""
        return text.format_map(self)

    def markup(self, text: str) -> str:
        """The same as Textual's markup, each key in bold."""
        return text.format_map(_Bold(self))

    def keymap(self) -> dict[str, str]:
        """The user's keys by the id of the bindings."""
        return {action.id: self.put(action).keys for action in EVERY if action.name in self.own}


@dataclass(frozen=True)
class _Bold:
    keys: Keys

    def __getitem__(self, action_id: str) -> str:
        return f"[b]{escape(self.keys[action_id])}[/b]"


def bindings(screen: str) -> list[BindingType]:
    """The key bindings of a screen or dialog; `app.act` looks first whether the action can be done."""
    return [
        Binding(
            action.keys,
            f"app.act('{action.name}')",
            action.label,
            show=action.footer,
            tooltip=action.help,
            id=action.id,
        )  # fmt: skip
        for action in EVERY
        if screen in action.screens
    ]
