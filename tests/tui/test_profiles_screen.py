"""The Profiles screen: list, check as you type, change, undo, save with comments kept, duplicate, start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, notices, settle, words
from textual.widgets import Input

from engine import profile, runs
from engine.errors import Unavailable
from tui.app import run_app
from tui.screens.dialogs import Ask, Choice
from tui.screens.profiles import ProfilesScreen
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
MINE = '# mine\nname = "mine"\n[model]\nsource = "demo"\n[[step]]\nuse = "prune"  # half\nsparsity = 0.5\n'


@SIZES
async def test_with_nothing_open_the_demo_is_one_key_away(
    size: tuple[int, int], started: list[tuple[runs.Run, bool]]
) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert "enter runs the selected profile" in words(app)
        await pilot.press("enter")
        await settle(pilot)
        assert app.current_mode == "run"
        assert "… starting" in words(app)
    (run, allow_code), *more = started
    assert not more
    assert not allow_code
    assert profile.parse(run.profile_file.read_text(), "x").name == "demo"


@pytest.mark.parametrize("width", [50, 80, 120])
async def test_the_hint_how_to_start_is_cut_nowhere(width: int) -> None:
    app = app_on()
    async with app.run_test(size=(width, 24)) as pilot:
        await settle(pilot)
        hint = str(app.screen.query_one("#start-hint").content)
        assert hint.startswith("enter runs the selected profile · e changes it")
        assert hint.endswith({50: "changes it", 80: "all keys", 120: "terminal closes"}[width])


async def test_all_profiles_are_listed_and_checked() -> None:
    Path("mine.toml").write_text(MINE)
    Path("broken.toml").write_text('[model]\nsorce = "demo"\n')
    Path("pyproject.toml").write_text('[project]\nname = "no profile"\n')
    app = app_on(profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#profiles-table", LiveTable)
        names = {Path(key).name: str(table.get_cell(key, "check")) for key in table.order}
        assert {file.path.name for file in profile.shipped()} <= set(names)
        assert names["mine.toml"] == "✓ valid"
        assert names["broken.toml"] == "✗ 2 wrong"
        assert "pyproject.toml" not in names
        assert table.selected == str(Path("mine.toml").resolve())
        table.select(str(Path("broken.toml").resolve()))
        await settle(pilot)
        shown = words(app)
        assert "unknown key" in shown
        assert "hint: did you mean 'source'" in shown
        await pilot.press("enter")
        await pilot.pause()
        assert notices(app)[-1] == "the profile has 2 problems; see Form"


async def test_the_list_says_how_the_last_run_of_a_profile_ended(make_run: MakeRun) -> None:
    make_run("failed", name="20251124T150000-demo-aaaa")
    make_run("finished", name="20251124T160000-demo-bbbb")
    make_run("failed", name="20251124T170000-demo-2-cccc")  # of a profile that is called demo-2
    app = app_on()
    async with app.run_test(size=(300, 40)) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#profiles-table", LiveTable)
        last = {Path(key).stem: str(table.get_cell(key, "last")) for key in table.order}
        assert last["demo"].startswith("✓ done ")
        assert last["edge"] == "-"
        make_run("failed", name="20251124T180000-demo-dddd")
        await pilot.press("2", "4")
        await settle(pilot)
        assert str(table.get_cell(table.order[0], "last")).startswith("✗ failed ")
        make_run("running", alive=True, name="20251124T190000-demo-eeee")
        app.screen.keep_looking()
        await settle(pilot)
        assert str(table.get_cell(table.order[0], "last")).startswith("▶ running ")


@pytest.mark.parametrize(
    ("width", "words_there"), [(50, False), (79, True), (80, True), (120, False), (159, True), (160, True)]
)
async def test_how_the_last_run_ended_is_there_at_every_width(width: int, words_there: bool, make_run: MakeRun) -> None:
    make_run("failed")
    app = app_on()
    async with app.run_test(size=(width, 24)) as pilot:
        await settle(pilot)
        row = next(line for line in words(app).splitlines() if "✓ valid" in line)
        assert re.search(r"✗ failed \d+d " if words_there else r"✗ \d+d ", row)
        assert "last run" in words(app)


async def test_a_change_is_checked_as_it_is_typed(started: list[tuple[runs.Run, bool]]) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        await pilot.press("e")
        await pilot.pause()
        line = app.screen.query_one("#change", Input)
        assert line.has_focus
        line.value = "step.0.sparsity=1.5"
        await pilot.pause()
        assert "less than 1" in words(app)
        await pilot.press("enter")
        assert _screen(app).draft.changes == []
        line.value = "step.0.sparsity=0.7"
        await pilot.press("enter")
        await pilot.pause()
        assert _screen(app).draft.changes == ["step.0.sparsity=0.7"]
        assert "sparsity = 0.7" in words(app)
        await pilot.press("escape", "enter")
        await settle(pilot)
    assert "sparsity = 0.7" in started[0][0].profile_file.read_text()


async def test_undo_takes_the_change_back() -> None:
    app = app_on()
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        await pilot.press("u")
        await pilot.pause()
        assert "no change to take back" in notices(app)[-1]
        await pilot.press("e")
        await pilot.pause()
        app.screen.query_one("#change", Input).value = "seed=7"
        await pilot.press("enter", "escape", "u")
        await pilot.pause()
        assert _screen(app).draft.changes == []


async def test_saving_keeps_the_comments() -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        await pilot.press("e")
        await pilot.pause()
        app.screen.query_one("#change", Input).value = "step.0.sparsity=0.7"
        await pilot.press("enter", "escape", "w")
        await pilot.pause()
        assert isinstance(app.screen, Ask)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Choice)  # it exists
        await pilot.press("y")
        await settle(pilot)
    assert Path("mine.toml").read_text() == MINE.replace("0.5", "0.7")


async def test_a_change_is_carried_over_to_the_text_that_is_in_the_file_now() -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        _screen(app).take("step.0.sparsity=0.7")
        Path("mine.toml").write_text(MINE + "# by another\n")
        _screen(app).load()
        await settle(pilot)
        assert _screen(app).draft.edited() == MINE.replace("0.5", "0.7") + "# by another\n"
        Path("mine.toml").write_text("[[step\n")
        _screen(app).load()
        await settle(pilot)
        await pilot.press("w")
        await settle(pilot)
        assert "do not fit" in notices(app)[-1]
        await pilot.press("D", "enter")
        await settle(pilot)
        assert "cannot write" in notices(app)[-1]


async def test_a_file_that_changes_is_shown_as_it_is_and_not_run_as_it_was(
    started: list[tuple[runs.Run, bool]],
) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        Path("mine.toml").write_text(MINE.replace("0.5", "0.25"))
        await pilot.press("enter")
        await settle(pilot)
        assert "mine.toml has changed" in notices(app)[-1]
        assert not started
        assert "sparsity = 0.25" in words(app)

        Path("new.toml").write_text(MINE)
        Path("mine.toml").write_text(MINE.replace("0.5", "0.125"))
        await pilot.press("e")
        await pilot.pause()
        _screen(app).look_back()
        await settle(pilot)
        assert "sparsity = 0.25" in words(app), "nothing moves under what is being typed"
        await pilot.press("escape")
        _screen(app).look_back()
        await settle(pilot)
        assert str(Path("new.toml").resolve()) in _screen(app).drafts
        assert _screen(app).draft.path.name == "mine.toml"
        await pilot.press("enter")
        await settle(pilot)
    assert "sparsity = 0.125" in started[0][0].profile_file.read_text()


async def test_duplicating_makes_a_new_file_with_its_own_name() -> None:
    app = app_on()
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        await pilot.press("D")
        await pilot.pause()
        app.screen.query_one(Input).value = "copy.txt"
        await pilot.press("enter")
        assert isinstance(app.screen, Ask)  # not a .toml
        app.screen.query_one(Input).value = "second.toml"
        await pilot.press("enter")
        await settle(pilot)
        assert app.screen.query_one("#profiles-table", LiveTable).selected == str(Path("second.toml").resolve())
    assert profile.load("second.toml").name == "second"


async def test_a_profile_that_runs_code_is_confirmed(started: list[tuple[runs.Run, bool]]) -> None:
    Path("code.toml").write_text('[model]\nsource = "python:my.module:make"\n')
    app = app_on(profile="code.toml")
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Choice)
        assert "my.module:make" in words(app)
        await pilot.press("enter")  # the default is no
        await settle(pilot)
        assert started == []
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("y")
        await settle(pilot)
        assert [allow for _, allow in started] == [True]


def test_an_unknown_profile_or_run_is_refused_before_the_screen_opens() -> None:
    with pytest.raises(Unavailable, match="no such profile"):
        run_app("nothing.toml")
    with pytest.raises(Unavailable, match="no such run"):
        run_app(run="nothing")


def _screen(app: object) -> ProfilesScreen:
    screen = app.screen
    assert isinstance(screen, ProfilesScreen)
    return screen
