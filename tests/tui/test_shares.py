"""Editing shares by hand: the laws of the numbers, and the strip of the Profiles screen with its keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, notices, settle, words

from engine import events as ev
from engine import profile, runs
from engine.errors import Unavailable
from tui.screens.profiles import ProfilesScreen
from tui.shares import EXACT, HIGHEST, Shares, editable, shares, sizes_of_model
from tui.widgets import drafts
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
MINE = """# mine
name = "mine"
[model]
source = "demo"
[[step]]
use = "prune"  # half
sparsity = 0.6
[[step]]
use = "prune"
pattern = "2:4"
[[step]]
use = "prune"
sparsity = 0.7
shares = {2 = 0.5, "model.layers.0.mlp.up_proj.weight" = 0.4}
"""


def strip(values: dict[int, float], target: float = 0.5) -> Shares:
    return Shares(0, target, {block: 100 + 10 * block for block in values}, values)


# The numbers


@given(st.dictionaries(st.integers(0, 40), st.floats(0.2, 0.8).map(lambda x: round(x, 3)), min_size=3, max_size=30),
       st.integers(0, 29), st.sampled_from([-0.05, -0.01, 0.01, 0.05]), st.floats(0.3, 0.7))  # fmt: skip
def test_balancing_meets_the_target_and_leaves_what_hands_changed(
    values: dict[int, float], at: int, by: float, target: float
) -> None:
    edited = strip(dict(values), round(target, 3))
    edited.move(at)
    edited.change(by)
    chosen, value = edited.block, edited.values[edited.block]
    met = edited.balance()
    assert edited.values[chosen] == pytest.approx(value, abs=1e-4)
    assert all(0 <= share <= HIGHEST for share in edited.values.values())
    assert met == (abs(edited.mean - edited.target) < EXACT)
    moved = {round(edited.values[b] - values[b], 3) for b in values if b != chosen and 0 < edited.values[b] < HIGHEST}
    assert not moved or max(moved) - min(moved) <= 0.0021  # all by one number


def test_the_cursor_and_the_shares_stay_in_bounds() -> None:
    edited = strip({0: 0.5, 1: 0.985})
    edited.move(-3)
    assert edited.block == 0
    edited.move(9)
    edited.change(0.05)
    assert edited.values == {0: 0.5, 1: HIGHEST}
    assert edited.changed
    edited.reset()
    assert not edited.changed


def test_what_is_kept_reads_back_through_the_profile() -> None:
    edited = strip({0: 0.45, 1: 0.55})
    edited.matrices = {"h.0.mlp.weight": 0.1}
    key, value = drafts.value(edited.keep())
    assert key == "step.0.shares"
    assert value == {"0": 0.45, "1": 0.55, "h.0.mlp.weight": 0.1}
    text = profile.edit(MINE, {key: value})
    assert "# half" in text
    read = tomli.loads(text)["step"]
    assert read[0]["shares"] == value
    assert read[1:] == tomli.loads(MINE)["step"][1:]
    again = profile.edit(text, {"step.0.seed": 3})  # a key that is added later stays in the step
    assert tomli.loads(again)["step"][0]["seed"] == 3


def test_only_steps_whose_blocks_can_differ_are_edited() -> None:
    checked = profile.parse(MINE, "mine")
    assert editable(checked) == [0, 2]
    own = shares(checked, 2, {0: 1, 1: 1, 2: 1}, {})
    assert own.values == {0: 0.7, 1: 0.7, 2: 0.5}
    assert list(own.matrices) == ["model.layers.0.mlp.up_proj.weight"]
    planned = shares(checked, 0, {0: 1, 1: 1}, {0: 0.55, 1: 0.65})
    assert planned.values == {0: 0.55, 1: 0.65}
    assert shares(checked, 0, {0: 1, 1: 1}, {0: 0.55}).values == {0: 0.6, 1: 0.6}  # a plan of another model


def test_a_model_made_by_code_has_no_headers() -> None:
    with pytest.raises(Unavailable, match="made by code"):
        sizes_of_model("builtin:linear")


# The pane


async def _to_shares(pilot: object) -> ProfilesScreen:
    screen = pilot.app.screen
    assert isinstance(screen, ProfilesScreen)
    screen.activate(screen.query_one("#shares-pane"))
    await settle(pilot)
    return screen


@SIZES
async def test_the_strip_is_edited_stored_and_run(
    size: tuple[int, int], make_run: MakeRun, started: list[tuple[runs.Run, bool]]
) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(make_run("finished"), profile="mine.toml")  # a run of the same model: its blocks are known
    async with app.run_test(size=size) as pilot:
        await pilot.press("4")
        await settle(pilot)
        screen = await _to_shares(pilot)
        assert screen.strip is not None
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
        draft = screen.draft
        assert draft is not None
        text = draft.edited()
        assert text.startswith("# mine")
        assert "# half" in text
        assert tomli.loads(text)["step"][0]["shares"]["2"] == 0.72
        assert "as in the profile" in words(app)
        assert screen.strip.block == 2
        await pilot.press("escape", "enter")
        await settle(pilot)
    resolved = tomli.loads(started[0][0].profile_file.read_text())
    assert resolved["step"][0]["shares"]["2"] == 0.72


async def test_it_starts_from_the_plan_of_the_open_run(make_run: MakeRun) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(make_run("allocated"), profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await pilot.press("4")
        await settle(pilot)
        screen = await _to_shares(pilot)
        assert screen.strip is not None
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
        assert screen.strip is not None
        assert set(screen.strip.values.values()) == {0.6}


async def test_undo_takes_back_the_strip_first_and_then_what_was_stored(make_run: MakeRun) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(make_run("finished"), profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await pilot.press("4")
        await settle(pilot)
        screen = await _to_shares(pilot)
        await pilot.press("down", "s", "J")
        await settle(pilot)
        assert screen.strip is not None
        assert screen.strip.values[0] == pytest.approx(0.54)
        await pilot.press("u")
        assert screen.strip.values[0] == pytest.approx(0.59)
        await pilot.press("u")
        await settle(pilot)
        assert screen.strip.values[0] == pytest.approx(0.6)
        assert screen.draft is not None
        assert screen.draft.changes == []


async def test_each_step_that_can_be_edited_has_a_strip_of_its_own(make_run: MakeRun) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(make_run("finished"), profile="mine.toml")
    async with app.run_test(size=MIDDLE) as pilot:
        await pilot.press("4")
        await settle(pilot)
        screen = await _to_shares(pilot)
        await pilot.press("n")
        await settle(pilot)
        assert screen.strip is not None
        assert (screen.strip.step, screen.strip.values[2], screen.strip.target) == (2, 0.5, 0.7)
        assert "Shares · step 2 · n next" in words(app)
        assert "beside 1 by name" in words(app)


async def test_what_has_no_strip_says_why() -> None:
    Path("chunks.toml").write_text('[model]\nsource = "demo"\n[[step]]\nuse = "prune"\npattern = "2:4"\n')
    Path("broken.toml").write_text('[model]\nsorce = "demo"\n')
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        screen = await _to_shares(pilot)
        said = {
            "worked-example": "made by code",
            "chunks": "No prune step here",
            "broken": "The profile has problems",
        }
        table = screen.query_one("#profiles-table", LiveTable)
        for name, why in said.items():
            table.select(next(key for key in table.order if Path(key).stem == name))
            await settle(pilot)
            assert why in words(app)
            await pilot.press("b")
            await pilot.pause()
            assert notices(app)[-1]
        await pilot.press("escape", "b")
        await pilot.pause()
        assert notices(app)[-1] == "this is for the strip in Shares: tab goes there"
