"""Steps of a profile added, removed and moved: in its text, and by keys in the app."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from recorded import LARGE, MINE, SMALL, app_on, notices, settle, words
from textual.pilot import Pilot

from engine import profile
from tui import stepedits
from tui.app import CompressApp
from tui.screens.steps import Steps

TEXT = """# on top
name = "three"
[model]
source = "demo"  # small
[[step]]
use = "prune"  # half
sparsity = 0.5
[[step]]
use = "evaluate"
[[step]]
use = "export"
dtype = "bfloat16"  # short
[gate]
perplexity_ratio = 2.0  # not worse
"""
INLINE = 'name = "x"\nstep = [{use = "prune"}, {use = "export"}]\n[model]\nsource = "demo"\n'
COMMENTS = ("# on top", "# small", "# half", "# short", "# not worse")


@given(st.integers(0, 2), st.integers(0, 2))
def test_moving_there_and_back_changes_nothing(at: int, to: int) -> None:
    moved = stepedits.move(TEXT, at, to)
    expected = ["prune", "evaluate", "export"]
    expected.insert(to, expected.pop(at))
    assert stepedits.names(moved) == expected
    assert tomli.loads(stepedits.move(moved, to, at)) == tomli.loads(TEXT)
    assert all(comment in moved for comment in COMMENTS)


@given(st.integers(0, 3))
def test_what_is_added_can_be_removed(at: int) -> None:
    added = stepedits.add(TEXT, at, "recover")
    assert stepedits.names(added)[at] == "recover"
    assert profile.parse(added, "x").step[at].use == "recover"
    assert tomli.loads(stepedits.remove(added, at)) == tomli.loads(TEXT)
    assert all(comment in added for comment in COMMENTS)


ABOVE = """name = "x"
# of prune
[[step]]
use = "prune"
[step.shares]
0 = 0.5

# of evaluate
[[step]]
use = "evaluate"

# of the gate
[gate]
perplexity_ratio = 2.0
"""


def test_a_removed_step_leaves_the_comments_of_the_next_table() -> None:
    for at, left in ((0, "evaluate"), (1, "prune")):
        text = stepedits.remove(ABOVE, at)
        assert stepedits.names(text) == [left]
        assert all(text.count(comment) == 1 for comment in ("# of prune", "# of evaluate", "# of the gate\n[gate]"))
    none = stepedits.remove(stepedits.remove(ABOVE, 0), 0)
    assert tomli.loads(none) == {"name": "x", "gate": {"perplexity_ratio": 2.0}}
    assert none.index("# of prune") < none.index("# of evaluate") < none.index("# of the gate")


@pytest.mark.parametrize(
    ("text", "told"), [('[step]\nuse = "prune"\n', "[[step]]"), ("step = [1]\n", "[[step]]"), ("[[step\n", "TOML")]
)
async def test_steps_that_cannot_be_told_apart_are_complained_about(text: str, told: str) -> None:
    with open("mine.toml", "w") as file:
        file.write(text)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert app.screen.id == "profiles"
        assert told in notices(app)[-1]


def test_steps_on_one_line_and_no_steps_at_all() -> None:
    assert stepedits.names(stepedits.move(INLINE, 0, 1)) == ["export", "prune"]
    none = 'name = "x"\n[model]\nsource = "demo"\n'
    assert stepedits.names(stepedits.add(none, 0, "prune")) == ["prune"]
    assert tomli.loads(stepedits.remove(stepedits.add(none, 0, "prune"), 0)) == tomli.loads(none)


@asynccontextmanager
async def editing(size: tuple[int, int]) -> AsyncIterator[tuple[CompressApp, Pilot[int]]]:
    """The app on a profile of one's own."""
    with open("mine.toml", "w") as file:
        file.write(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        yield app, pilot


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
async def test_steps_are_changed_by_keys_and_taken_back(size: tuple[int, int]) -> None:
    async with editing(size) as (app, pilot):
        await pilot.press("a")
        await settle(pilot)
        assert isinstance(app.screen, Steps)
        await pilot.press(
            "x", "a", "j", "enter", "K", "enter"
        )  # sensitivity, prune: the second is added below the first
        await settle(pilot)
        draft = app.screen.draft
        assert [step.use for step in draft.check().step] == ["prune", "prune", "prune"]
        assert [step.sparsity for step in draft.check().step] == [None, None, 0.7]
        assert "mine.toml · changed, not saved" in words(app) or size == SMALL
        await pilot.press("u")
        assert [step.sparsity for step in draft.check().step] == [0.6, None, 0.7]
        await pilot.press("a", "x", "escape")
        assert len(draft.check().step) == 3


async def test_what_a_step_does_goes_on_below_its_beginning() -> None:
    async with editing(SMALL) as (app, pilot):
        await pilot.press("a", "a")
        await settle(pilot)
        lines = words(app).splitlines()
        first = next(number for number, line in enumerate(lines) if " prune " in line and "Set weights" in line)
        start, below = lines[first].index("Set weights"), lines[first + 1]
        assert below[start - 2 : start].isspace()
        assert not below[start].isspace()
        assert " prune " not in below


async def test_what_differs_from_another_profile_and_from_the_stored_one_is_shown() -> None:
    async with editing(SMALL) as (app, pilot):
        app.screen.take("step.0.sparsity=0.65")
        mine = list(app.screen.drafts).index(str(app.screen.draft.path))
        await pilot.press("equals_sign", *["j"] * mine, "enter")
        await settle(pilot)
        changed = [line for line in app.screen.text.plain.splitlines() if line[:1] in "+-"]
        assert changed == ["--- mine.toml", "+++ mine.toml (here)", "-sparsity = 0.6", "+sparsity = 0.65"]
        await pilot.press("escape", "equals_sign", "enter")
        await settle(pilot)
        assert '-name = "demo"' in app.screen.text.plain


async def test_a_file_that_is_gone_differs_from_nothing() -> None:
    async with editing(SMALL) as (app, pilot):
        os.remove("mine.toml")
        mine = list(app.screen.drafts).index(str(app.screen.draft.path))
        await pilot.press("equals_sign", *["j"] * mine, "enter")
        await settle(pilot)
        assert "cannot read: No such file" in notices(app)[-1]


async def test_a_command_of_changed_steps_is_not_copied() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("a", "x", "enter", "Y")
        await settle(pilot)
        assert "save it first" in notices(app)[-1]
        assert not app.clipboard
