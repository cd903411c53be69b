"""The strip of the Profiles screen: its keys, what it starts from, storing, and what is shown while there is none."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli
from recorded import LARGE, MIDDLE, MINE, SMALL, MakeRun, app_on, notices, settle, words

from engine import events as ev
from engine import runs
from tui.app import CompressApp
from tui.screens import shares as shares_screen
from tui.screens.profiles import ProfilesScreen
from tui.shares import Sizes
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
Opened = tuple[CompressApp, Any, ProfilesScreen]
OpenStrip = Callable[..., AbstractAsyncContextManager[Opened]]


async def to_shares(pilot: Any) -> ProfilesScreen:
    screen = pilot.app.screen
    assert isinstance(screen, ProfilesScreen)
    screen.activate(screen.query_one("#shares-pane"))
    await settle(pilot)
    return screen


@pytest.fixture
def opened(make_run: MakeRun) -> OpenStrip:
    """The app on a recorded run, with the keys in the strip of a profile of the same model: app, pilot, screen."""

    @asynccontextmanager
    async def open_(recording: str = "finished", size: tuple[int, int] = MIDDLE) -> AsyncIterator[Opened]:
        Path("mine.toml").write_text(MINE)
        app = app_on(make_run(recording), profile="mine.toml")
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await pilot.press("4")
            await settle(pilot)
            screen = await to_shares(pilot)
            assert screen.strip is not None
            yield app, pilot, screen

    return open_


def choose(screen: ProfilesScreen, name: str) -> None:
    table = screen.query_one("#profiles-table", LiveTable)
    table.select(next(key for key in table.order if Path(key).stem == name))


@SIZES
async def test_the_strip_is_edited_stored_and_run(
    size: tuple[int, int], opened: OpenStrip, started: list[tuple[runs.Run, bool]]
) -> None:
    async with opened(size=size) as (app, pilot, screen):
        assert list(screen.strip.values.values()) == [0.6] * 30
        assert "✓ met" in words(app)
        assert "enter store" in str(screen.query_one("#foot").content)
        await pilot.press("right", "l", "up", "up", "K", "shift+up")
        await settle(pilot)
        assert (screen.strip.block, screen.strip.values[2]) == (2, pytest.approx(0.72))
        shown = words(app)
        for text in ("block 2 72.0%", "was 60.0%", "mean 60.40% target 60.00% ▲ +0.40", "~ changed"):
            assert text in shown
        await pilot.press("b")
        assert "mean 60.00% target 60.00% ✓ met" in words(app)
        assert screen.strip.values[2] == pytest.approx(0.72)
        await pilot.press("enter")
        await settle(pilot)
        assert "stored in the draft" in notices(app)[-1]
        assert not started
        text = screen.draft.edited()
        assert text.startswith("# mine")
        assert "# half" in text
        assert tomli.loads(text)["step"][0]["shares"]["2"] == 0.72
        assert "as in the profile" in words(app)
        assert screen.strip.block == 2
        await pilot.press("escape", "enter")
        await settle(pilot)
    resolved = tomli.loads(started[0][0].profile_file.read_text())
    assert resolved["step"][0]["shares"]["2"] == 0.72


async def test_what_a_run_would_refuse_is_not_stored(opened: OpenStrip) -> None:
    async with opened() as (app, pilot, screen):
        await pilot.press("K", "K", "enter")  # 0.33 points off the mean, 0.2 are borne
        await settle(pilot)
        assert "not stored: the mean is 60.33%, not 60.00%" in notices(app)[-1]
        assert screen.draft.changes == []
        assert screen.strip.changed
        await pilot.press("b", "enter")
        await settle(pilot)
        assert "stored in the draft" in notices(app)[-1]
        assert len(screen.draft.changes) == 1


async def test_it_starts_from_the_plan_of_the_open_run(opened: OpenStrip) -> None:
    async with opened("allocated") as (app, pilot, screen):
        assert (screen.strip.values[0], screen.strip.values[28]) == (0.36, 0.688)  # both were asked for 60%
        assert "the plan of the open run" in words(app)
        await pilot.press("up")
        app.follower.state.plans[1] = ev.SparsityPlanned(
            step=1,
            allocation="atp",
            sparsity=0.6,
            shares=dict.fromkeys(app.follower.state.layers, 0.6),
            seq=9000,
        )
        app.follower.state.seq = 9000
        await settle(pilot)
        assert screen.strip.values[0] == pytest.approx(0.37)  # what hands changed stays
        await pilot.press("u")
        app.follower.state.seq = 9001
        await settle(pilot)
        assert set(screen.strip.values.values()) == {0.6}


async def test_undo_takes_back_the_strip_first_and_then_what_was_stored(opened: OpenStrip) -> None:
    async with opened() as (_, pilot, screen):
        await pilot.press("down", "s", "J")
        await settle(pilot)
        assert screen.strip.values[0] == pytest.approx(0.54)
        await pilot.press("u")
        assert screen.strip.values[0] == pytest.approx(0.59)
        await pilot.press("u")
        await settle(pilot)
        assert screen.strip.values[0] == pytest.approx(0.6)
        assert screen.draft.changes == []


async def test_each_step_that_can_be_edited_has_a_strip_of_its_own(opened: OpenStrip) -> None:
    async with opened() as (app, pilot, screen):
        await pilot.press("n")
        await settle(pilot)
        assert (screen.strip.step, screen.strip.values[2], screen.strip.target) == (2, 0.5, 0.7)
        assert "Shares · step 2 · n next" in words(app)
        assert "beside 1 by name" in words(app)
        assert screen.strip.sizes[1] - screen.strip.sizes[0] == 1536 * 576  # its own share is counted apart


async def test_an_edited_strip_is_kept_while_other_profiles_and_changes_come(opened: OpenStrip) -> None:
    async with opened() as (_, pilot, screen):
        await pilot.press("K")
        edited = screen.strip
        choose(screen, "demo")
        await settle(pilot)
        assert screen.strip is not edited
        choose(screen, "mine")
        await settle(pilot)
        assert screen.strip is edited
        screen.take("step.0.criterion=wanda")  # nothing that the strip is made from
        await settle(pilot)
        assert screen.strip is edited
        screen.take("step.0.sparsity=0.5")
        await settle(pilot)
        assert (screen.strip.target, screen.strip.values[0]) == (0.5, 0.5)


async def test_no_key_reaches_the_old_strip_while_another_models_blocks_are_read(
    opened: OpenStrip, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slowly(source: str) -> Sizes:
        assert go_on.wait(20)
        return {0: {"0.a": 1}, 1: {"1.a": 1}}

    monkeypatch.setattr(shares_screen, "sizes_of_model", slowly)
    Path("other.toml").write_text(MINE.replace('source = "demo"', 'source = "./other"'))
    async with opened() as (app, pilot, screen):
        old, values = screen.strip, dict(screen.strip.values)
        try:
            choose(screen, "other")
            await pilot.pause()
            await pilot.press("K", "enter")
            await pilot.pause()
            assert screen.strip is None
            assert "reading the blocks" in words(app)
            assert "reading the blocks" in notices(app)[-1]
        finally:
            go_on.set()
        await settle(pilot)
        assert list(screen.strip.values) == [0, 1]
        assert old.values == values
        assert screen.draft.changes == []


async def test_what_has_no_strip_says_why() -> None:
    Path("chunks.toml").write_text('[model]\nsource = "demo"\n[[step]]\nuse = "prune"\npattern = "2:4"\n')
    Path("broken.toml").write_text('[model]\nsorce = "demo"\n')
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        screen = await to_shares(pilot)
        said = {
            "worked-example": "made by code",
            "chunks": "No prune step here",
            "broken": "The profile has problems",
        }
        for name, why in said.items():
            choose(screen, name)
            await settle(pilot)
            assert why in words(app)
            before = len(notices(app))
            await pilot.press("b")
            await pilot.pause()
            assert len(notices(app)) == before + 1
            assert why in notices(app)[-1]
        await pilot.press("escape", "b")
        await pilot.pause()
        assert notices(app)[-1] == "this is for the strip in Shares: tab goes there"
