"""Keys of one's own: every one remapped, no old one does or is called anything, on screens, in dialogs, hints and notices."""

from __future__ import annotations

import re

import pytest
from recorded import LARGE, SMALL, MakeRun, settle, words
from test_actions import agree
from textual.pilot import Pilot
from textual.widgets import Input

from engine.errors import UsageError
from tui import actions, keys, settings
from tui.app import CompressApp
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Dialog
from tui.screens.help import help_screen

NAMES = list(dict.fromkeys(action.name for action in actions.EVERY))
TYPED = {action.name for action in actions.EVERY if action.screens[0] in actions.LINES}
WIDE = (240, 60)
"""room for every hint"""


def letter(name: str) -> str:
    """The new key of an action: a letter that no text of the app has."""
    return chr(0x10D0 + NAMES.index(name) % 43) if NAMES.index(name) < 43 else chr(0x561 + NAMES.index(name) - 43)


def function_key(name: str) -> str:
    """Its key where people type."""
    at = sorted(TYPED).index(name)
    return f"{'ctrl' if at < 12 else 'shift'}+f{at % 12 + 1}"


def other_keys() -> settings.Settings:
    """Settings in which no action has a key that it had."""
    lines = [f"{name} = {[letter(name), *([function_key(name)] if name in TYPED else [])]}" for name in NAMES]
    settings.file().write_text("\n".join(["[keys]", *lines]))
    return settings.load()


OLD = {keys.shown(key) for action in actions.EVERY for key in action.keys.split(",")}
WORDS = {"a", "1", "2", "3", "4"}
"""keys that texts have for other reasons as well"""
OTHERS = {"choose", "open", "inspect", "see", "again", "once", "another", "on", "in"}
LABELS = {action.label for action in actions.EVERY} | OTHERS
NAMED = re.compile(
    rf"(?<![\w.'])(?:{'|'.join(re.escape(key) for key in OLD - WORDS)}) {{1,2}}"
    rf"(?:[a-z]+s|{'|'.join(re.escape(label) for label in LABELS)})\b"
    r"|\ba (?:add|steps)|[1-4] {1,2}(?:Inspect|Run|Prompts|Profiles|choose|see)\b"
)
"""a key and what it does, as hints say it: `o lists them`, `enter open`"""


def old_keys(text: str) -> set[str]:
    """Where a text names a default key."""
    alone = set(re.split(r"[\s·,;:()]+", text)) & {key for key in OLD if len(key) > 1} - {"end"}
    return alone | {found[0] for found in NAMED.finditer(text)}


def test_hints_with_keys_are_seen() -> None:
    """What `old_keys` is there to find."""
    for hint in (
        "no run is open: o lists them",
        "m  open another model",
        " 4 Profiles",
        "b balances",
        "y copy · s sort",
    ):
        assert old_keys(hint)


async def press(pilot: Pilot[int], names: str) -> None:
    for name in names.split():
        await pilot.press(function_key(name.removesuffix("@line")) if "@" in name else letter(name))
        await settle(pilot)


PLACES = {
    "profiles": "", "inspect": "inspect", "run": "run", "prompts": "prompts",
    "steps": "profiles steps", "differences": "profiles differences", "shares": "profiles previous_pane",
    "form": "profiles edit", "save": "profiles save", "model": "inspect model", "what if": "inspect what_if",
    "compare": "inspect compare", "runs": "runs", "files": "run folder", "report": "run report",
    "theme": "theme", "command": "command", "help": "help", "filter": "run filter",
    "edit": "prompts edit", "help of runs": "runs help", "export": "prompts export",
}  # fmt: skip
"""where to look: the actions that go there"""


RUNS = [(None, "demo"), ("finished", "demo"), ("finished", "./other"), ("running", "demo"), ("failed", "demo")]


async def close(app: CompressApp, pilot: Pilot[int]) -> None:
    """Closes the dialogs, and leaves a line that is typed in."""
    for _ in range(3):
        if isinstance(app.screen, Dialog) or isinstance(app.focused, Input):
            await pilot.press(*[letter("back")] * isinstance(app.screen, Dialog), function_key("back"))
    assert not isinstance(app.screen, Dialog)


async def look_around(app: CompressApp, pilot: Pilot[int]) -> dict[str, str]:
    """What is said in all places, and on each screen of what cannot be done."""
    said = {}
    for place, names in PLACES.items():
        await press(pilot, names)
        said[place] = words(app)
        for name in NAMES if isinstance(app.screen, WorkScreen) else ():
            said[f"{place}: {name}"] = app.why_not(name) or ""
        await close(app, pilot)
    return said


async def compare_with_the_demo(app: CompressApp, pilot: Pilot[int]) -> str:
    await press(pilot, "inspect compare")
    app.screen.target.value = "demo"
    await pilot.press(function_key("accept"))
    await settle(pilot)
    return words(app)


@pytest.mark.parametrize(("recording", "source"), RUNS)
async def test_no_screen_names_an_old_key(
    recording: str | None, source: str, make_run: MakeRun, signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(CompressApp, "notify", lambda app, message, **more: heard.append(message))
    run = make_run(recording, alive=recording == "running", source=source) if recording else None
    app = CompressApp(None, run, other_keys())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        app.inspect_model("demo")
        said = await look_around(app, pilot)
        said["compared"] = await compare_with_the_demo(app, pilot)
        if run:
            (run.path / "aa.bin").write_bytes(b"\0")
            await press(pilot, "run cancel cancel folder open")
            await close(app, pilot)
        if recording == "running":
            await press(pilot, "quit")
            said["quit"] = words(app)
            await close(app, pilot)
        await pilot.resize_terminal(*SMALL)
        for screen in actions.SCREENS:
            await press(pilot, screen)
            said[f"{screen}, small"] = words(app)
        assert not app._exit
    assert not run or any(notice.startswith("not a text") for notice in heard)
    said |= {f"notice {notice}": notice for notice in heard}
    assert {place: named for place, text in said.items() if (named := old_keys(text))} == {}


async def test_with_other_keys_help_footer_palette_and_bindings_agree(make_run: MakeRun) -> None:
    app = CompressApp(None, make_run("finished"), other_keys())
    async with app.run_test(size=(400, 24)) as pilot:
        for screen in actions.SCREENS:
            await press(pilot, screen)
            agree(app, screen)


@pytest.mark.parametrize("names", ["runs", "run folder", "theme", "profiles steps", "run report", "inspect model"])
async def test_the_keys_of_a_dialog_are_those_in_its_frame_and_its_help(names: str, make_run: MakeRun) -> None:
    app = CompressApp(None, make_run("finished"), other_keys())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, names)
        dialog = app.screen
        shown = str(dialog.query_one(".dialog").border_subtitle)
        help_text = help_screen(dialog.scope, app.keys).text.plain
        listed = app.keys.of(dialog.scope)
        for action in listed:
            assert f"{action.every_key} " in help_text
            assert hasattr(dialog, f"do_{action.name}") or hasattr(app, f"do_{action.name}")
        possible = [f"{one.key} {one.label}" for one in listed if one.footer and dialog.why_not(one.name) is None]
        assert " · ".join(possible).startswith(shown)
        assert shown.startswith(possible[0])


async def test_old_keys_do_nothing_and_new_ones_do_it(make_run: MakeRun) -> None:
    app = CompressApp(None, make_run("finished"), other_keys())
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        home = app.screen
        for key in ("o", "question_mark", "F", "R", "enter", "tab", "down", "4", "colon", "T", "ctrl+p", "q", "ctrl+c"):
            await pilot.press(key)
            await settle(pilot)
            assert (app.screen, app._exit) == (home, False), key
        table = app.screen.target
        row = table.cursor_row
        await press(pilot, "down down up")
        assert table.cursor_row == row + 1
        await press(pilot, "runs filter")
        await pilot.press(*"nothing", function_key("accept"))
        assert app.screen.target.row_count == 0
        await press(pilot, "back")
        assert app.screen.target.row_count == 1
        await press(pilot, "back")
        assert app.screen is home


async def test_where_people_type_letters_stay_letters(make_run: MakeRun) -> None:
    settings.file().write_text('[keys]\nback = "z"\nearlier = ["1", "ctrl+n"]\n')
    app = CompressApp(None, None, settings.load())
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("1", "m", "z", "1")
        await settle(pilot)
        assert app.screen.target.value.endswith("z1")
        assert "esc go back" in words(app)
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen.id == "inspect"


async def test_the_palette_closes_with_its_own_keys() -> None:
    app = CompressApp(None, None, other_keys())
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        await press(pilot, "palette")
        assert not isinstance(app.screen, WorkScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, WorkScreen)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("beside = 'x'", "'x' would be beside and cancel in runs"),
        ("no = 'j'", "'j' would be down and no in question"),
    ],
)
def test_a_key_with_two_meanings_in_a_dialog_is_refused(line: str, told: str) -> None:
    settings.file().write_text(f"[keys]\n{line}\n")
    with pytest.raises(UsageError) as caught:
        settings.load()
    assert set(told.split()) == set(caught.value.message.split())
