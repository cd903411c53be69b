"""A profile as it is changed in the app, not saved yet: its check, its text, and how both are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli
from rich.text import Text

from engine import figures, runs
from engine.errors import EngineError, ProfileError
from engine.runs import Run
from tui.follow import Glance, glance
from tui.widgets.columns import Column
from tui.widgets.states import elide, mark

if TYPE_CHECKING:
    from engine.profile import Profile, ProfileFile


def _check(problems: int) -> Text:
    return mark("valid") if not problems else Text(f"✗ {problems} wrong", "red")


def _last(last: Last) -> Text:
    return mark(last.status, f" {last.age}")


def _last_short(last: Last) -> Text:
    """The state's sign stands for its word."""
    sign = mark(last.status)
    return Text.assemble(sign[:2], (last.age, sign.style))


LONGEST = 72
ROOMY = 76
"""columns of a list that says how the last run ended in words"""
NARROW = 46
"""columns of a list that says what a profile is about, as its text beside it does"""
COLUMNS = (
    Column("name", "profile", 14, least=NARROW),
    Column("name", "profile", most=NARROW - 1),
    Column("check", "check", 9, _check),
    Column("last", "last run", 18, _last, least=ROOMY),
    Column("last", "last run", 8, _last_short, most=ROOMY - 1),
    Column("place", "from", 7, least=88),
    Column("about", "about", least=NARROW),
)


@dataclass
class Draft:
    """A profile as chosen here: its text and the changes that were typed, not saved yet."""

    path: Path
    text: str
    shipped: bool
    changes: list[str]
    before: list[tuple[str, list[str]]] = field(default_factory=list)
    """text and changes before each change of the steps"""
    _checked: tuple[tuple[str, ...], Profile | ProfileError] | None = field(default=None, repr=False)

    @property
    def changed(self) -> bool:
        return bool(self.changes or self.before)

    @property
    def name(self) -> str:
        """The profile's own name, which its runs bear; the file's where the text does not say it."""
        checked = self.check()
        return self.path.stem if isinstance(checked, ProfileError) else checked.name

    def restep(self, text: str) -> None:
        """Takes over a text with other steps."""
        self.before.append((self.text, self.changes))
        self.text, self.changes, self._checked = text, [], None

    def undo(self) -> str:
        """Takes the last change back. Returns what it was."""
        if self.changes:
            return self.changes.pop()
        self.text, self.changes = self.before.pop()
        self._checked = None
        return "the change of the steps"

    def check(self, also: str = "") -> Profile | ProfileError:
        """The checked profile with all changes and the one being typed, or everything that is wrong.

        The last answer is kept: the footer asks several times a second.
        """
        overrides = (*self.changes, also) if also else tuple(self.changes)
        if self._checked is None or self._checked[0] != overrides:
            self._checked = overrides, self._check(overrides)
        return self._checked[1]

    def _check(self, overrides: tuple[str, ...]) -> Profile | ProfileError:
        from engine import profile

        try:
            return profile.parse(self.text, self.path.name, overrides, base=self.path.parent)
        except ProfileError as error:
            return error

    def edited(self, also: str = "") -> str:
        """The text with the changes, `also` one being typed, in place and every comment kept; without those that do not fit."""
        from engine import profile

        if also and isinstance(self.check(also), ProfileError):
            also = ""
        changes = [*self.changes, also] if also else self.changes
        if not changes or isinstance(self.check(also), ProfileError):
            return self.text
        return profile.edit(self.text, dict(value(change) for change in changes))


def found(asked: str | None) -> tuple[list[tuple[ProfileFile, str]], str]:
    """The shipped profiles, those of the working folder, the one the app was started with; the path to select."""
    from engine import profile

    own = [profile.ProfileFile(path.resolve(), shipped=False) for path in sorted(Path.cwd().glob("*.toml"))]
    files = [*profile.shipped(), *(file for file in own if _is_profile(file.path))]
    chosen = profile.find(asked) if asked else profile.find("demo")
    if chosen.path not in [file.path for file in files]:
        files.insert(0, chosen)
    return [(file, file.text()) for file in files], str(chosen.path)


def stored(asked: str | None) -> dict[str, str]:
    """The same texts by path; nothing where they cannot be read just now."""
    try:
        return {str(file.path): text for file, text in found(asked)[0]}
    except (EngineError, OSError, ValueError):
        return {}


def on_disk(path: Path) -> str | None:
    """What a file says now; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _is_profile(path: Path) -> bool:
    try:
        raw = tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "model" in raw or "step" in raw


class Last(NamedTuple):
    """How long ago a profile's newest run said something (seconds), in words, and how it stands."""

    ago: float
    age: str
    status: str


def last_runs() -> dict[str, Glance]:
    """The newest run of every profile, by the profile's name."""
    newest: dict[str, Run] = {}
    for run in runs.list_runs():
        newest.setdefault(run.name.partition("-")[2].rpartition("-")[0], run)
    return {name: glance(run) for name, run in newest.items()}


def row(draft: Draft, last: Glance | None, now: float) -> dict[str, Any]:
    """A line of the list; `last` is the profile's newest run."""
    checked = draft.check()
    try:
        about = str(tomli.loads(draft.text).get("description", ""))
    except tomli.TOMLDecodeError:
        about = ""
    return {
        "name": draft.path.stem + ("*" if draft.changed else ""),
        "check": len(checked.problems) if isinstance(checked, ProfileError) else 0,
        "last": last and Last(ago := max(0.0, now - last.updated), figures.age(ago), last.status),
        "place": "shipped" if draft.shipped else "folder",
        "about": about,
    }


def report(draft: Draft, checked: Profile | ProfileError) -> Text:
    """What is wrong, or the steps in a line; then the changes."""
    text = Text()
    if isinstance(checked, ProfileError):
        text.append(f"✗ {figures.several(len(checked.problems), 'problem')}\n", "red bold")
        for problem in checked.problems:
            text.append(f"{problem.key or draft.path.name}: ", "bold")
            text.append(f"{problem.message}\n")
            if problem.hint:
                text.append(f"  hint: {problem.hint}\n", "cyan")
    else:
        steps = " → ".join(step.use for step in checked.step) or "only measuring"
        text.append_text(Text.assemble(mark("valid"), f"  {checked.model.source}: {steps}\n"))
    for change in draft.changes:
        text.append(f"~ {elide(change, LONGEST)}\n", "yellow")
    return text


def value(change: str) -> tuple[str, Any]:
    """A typed change as key path and value; a bare word is a string."""
    key, _, text = change.partition("=")
    try:
        return key.strip(), tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return key.strip(), text


def differences(name: str, text: str, draft: Draft) -> Text:
    """What a draft has otherwise than `text`, which is called `name`: lines with - and +, as diff writes them."""
    lines = unified_diff(text.splitlines(), draft.edited().splitlines(), name, f"{draft.path.name} (here)", lineterm="")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return Text("\n").join(Text(line, colours.get(line[:1], "")) for line in lines) or Text("no line differs")
