"""The Prompts screen: the A/B table, the race, one prompt in full, examples on which two differ."""

from __future__ import annotations

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, settle, words

from tui.screens.dialogs import Reader
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


@SIZES
async def test_the_table_compares_with_the_baseline(size: tuple[int, int], make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await settle(pilot)
        table = app.screen.query_one("#candidates", LiveTable)
        assert table.order[:3] == ["c03", "plain", "c02"]
        row = {c.key.value: str(table.get_cell("c03", c.key)) for c in table.ordered_columns}
        assert row["candidate"] == "★ c03"
        assert (row["dense"], row["compressed"], row["difference"]) == ("85.1%", "76.8%", "+13.9")
        assert row["interval"] == "+9.4 +18.6"
        assert row["verdict"] == "▲ better"
        assert row["round"] == "3 in"
        assert str(table.get_cell("plain", "verdict")) == "· baseline"
        assert str(table.get_cell("c02", "verdict")) == "= tie"
        assert str(table.get_cell("c04", "round")) == "1 out"
        assert table.virtual_size.width <= table.size.width


async def test_a_race_in_progress(make_run: MakeRun) -> None:
    app = app_on(make_run("racing", alive=True))
    async with app.run_test(size=MIDDLE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        shown = words(app)
        assert "round 1  ●●●●●●●● 8" in shown
        assert "round 3  ●●● 3" in shown
        assert "★" not in shown
        table = app.screen.query_one("#candidates", LiveTable)
        assert str(table.get_cell("c03", "difference")) == "+13.9"  # on the same development rows


async def test_one_prompt_in_full(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        shown = words(app)
        assert "Classify the movie review as positive or negative." in shown
        assert "p <0.001, n=436" in shown
        await pilot.press("y")
        assert app.clipboard.startswith("Classify the movie review")


@SIZES
async def test_examples_on_which_they_differ(size: tuple[int, int], make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await settle(pilot)
        examples = app.screen.query_one("#examples", LiveTable)
        await pilot.press("tab", "tab")
        await settle(pilot)
        assert examples.row_count == 8
        await pilot.press("f")
        await settle(pilot)
        assert examples.row_count == 24
        assert app.screen.active.id == "examples-pane"
        await pilot.press("f")
        await settle(pilot)
        assert examples.row_count == 8
        assert str(examples.get_cell("0", "base")) == "✗ positive"
        assert str(examples.get_cell("0", "best")) == "✓ negative"
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        assert "right answer negative" in app.screen.text.plain
        assert "-2.40" in app.screen.text.plain
        await pilot.press("escape")


async def test_without_prompts_it_says_when_they_come(make_run: MakeRun) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert "No prompts yet" in words(app)
