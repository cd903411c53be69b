"""Inspect reads weights: the selected matrix's histogram and pattern, and how far it is from another model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorded import FIRST, LARGE, SMALL, MakeRun, app_on, notices, settle, words
from textual.pilot import Pilot
from textual.widgets import Input

from engine.stored import portrait as portraits
from engine.stored import reading
from engine.stored.portrait import portrait
from tui.app import CompressApp
from tui.widgets import weights
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


async def go(pilot: Pilot[int], app: CompressApp, pane: str) -> None:
    """To a pane, with all that is read there."""
    while app.screen.active.id != pane:
        await pilot.press("tab")
        await settle(pilot)


async def opened(pilot: Pilot[int], app: CompressApp, source: Path) -> None:
    """Opens a model in Inspect with the cursor on its first matrix."""
    app.model_source = str(source)
    await pilot.press("1")
    await settle(pilot)
    await pilot.press("E", "slash", *"0.mlp", "enter", "G")
    await settle(pilot)


async def compare(pilot: Pilot[int], app: CompressApp, source: str) -> None:
    await pilot.press("equals_sign")
    await pilot.pause()
    app.screen.query_one(Input).value = source
    await pilot.press("enter")
    await settle(pilot)


@SIZES
async def test_the_selected_matrix_is_drawn(size: tuple[int, int], pruned: Path) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, pruned)
        await go(pilot, app, "weights-pane")
        shown = words(app)
        assert "50.00% of 512" in shown
        assert "█" in shown
        text = str(app.screen.query_one("#weights").content)
        for part in ("2:4 in every group", "2 of 4 stay 100.0%", "every weight", "·■■· ·■■·"):
            assert part in text


async def test_only_the_selected_matrix_is_read(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    plain = reading.read
    monkeypatch.setattr(reading, "read", lambda summary, t, *more: (seen.append(t.name), plain(summary, t, *more))[1])
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, app, dense)
        assert seen == []  # nobody looks at weights
        await go(pilot, app, "weights-pane")
        assert seen == [FIRST]
        await go(pilot, app, "tree-pane")
        await go(pilot, app, "weights-pane")
        assert seen == [FIRST]


async def test_what_has_no_values_says_so(dense: Path) -> None:
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot, app, dense)
        await pilot.press("escape", "slash", *"packed", "enter", "G")
        await settle(pilot)
        shown = app.screen.query_one("#weights")
        assert "I32 values are codes" in str(shown.content)
        await pilot.press("escape", "g")
        await settle(pilot)
        assert "Go to a matrix" in str(shown.content)


@SIZES
async def test_two_models_are_compared_matrix_by_matrix(size: tuple[int, int], dense: Path, pruned: Path) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, dense)
        await compare(pilot, app, str(pruned))
        assert app.screen.active.id == "compare-pane"
        table = app.screen.query_one("#compare", LiveTable)
        assert table.order == ["model.packed", "0.mlp.up_proj", "1.mlp.up_proj"]
        await pilot.press("j")
        await settle(pilot)
        assert str(table.get_cell("0.mlp.up_proj", "after")) == "50.0%"
        change = float(str(table.get_cell("0.mlp.up_proj", "change")).rstrip("%")) / 100
        assert str(table.get_cell("1.mlp.up_proj", "change")) == "-"  # not looked at
        await go(pilot, app, "matrix-pane")
        shown = words(app)
        assert "0.00% → 50.00%" in shown
        assert f"{np.sqrt(1 - change**2):.3f}" in shown  # what stayed is orthogonal to what went
        await go(pilot, app, "compare-pane")
        await pilot.press("j")
        await settle(pilot)
        assert app.screen.pairs["1.mlp.up_proj"][1].shape == (8, 32)
        assert app.screen.apart.keys() <= {"0.mlp.up_proj"}
        assert size == SMALL or "there 8×32" in words(app)
        await pilot.press("enter")  # the note has no column at 80 columns
        await settle(pilot)
        assert app.screen.active.id == "matrix-pane"
        assert "there 8×32" in words(app)
        await go(pilot, app, "compare-pane")
        await pilot.press("g", "enter")
        await settle(pilot)
        assert "not in the other" in words(app)


async def test_the_runs_result_is_offered_and_nothing_ends_it(dense: Path, pruned: Path, make_run: MakeRun) -> None:
    run = make_run("finished", source=str(dense))
    pruned.rename(run.artifacts / "model-safetensors")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, app, dense)
        await pilot.press("equals_sign")
        await pilot.pause()
        assert app.screen.query_one(Input).value == str(run.artifacts / "model-safetensors")
        await pilot.press("enter")
        await settle(pilot)
        assert "Compare · model-safetensors" in words(app)
        await compare(pilot, app, "")
        assert "Compare" not in words(app)


async def test_what_cannot_be_compared_leaves_all_as_it_was(dense: Path) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1", "equals_sign")
        await pilot.pause()
        assert notices(app)[-1] == "no model is open: m opens one"
        await opened(pilot, app, dense)
        await compare(pilot, app, "nowhere")
        assert "no such file or folder" in notices(app)[-1]
        assert app.screen.other is None


def test_the_histogram_is_as_wide_as_there_is_room_and_symmetric() -> None:
    values = np.concatenate([np.linspace(-1, 1, 4000), np.zeros(96)]).astype(np.float32).reshape(-1, 64)
    for width in (30, 46, 80):
        *bars, axis = weights.histogram(portrait(values), width).plain.splitlines()
        assert len(bars) == weights.ROWS
        drawn = bars[-1][weights.AXIS :]
        assert portraits.BINS % len(drawn) == 0
        assert len(drawn) <= width - weights.AXIS
        assert drawn == drawn[::-1]
        assert axis.split() == ["-2.3", "0", "2.3"]


def test_a_pattern_of_eight_is_drawn_in_groups_of_eight() -> None:
    values = np.ones((4, 32), np.float32)
    values[:, 0::8] = values[:, 1::8] = values[:, 2::8] = values[:, 3::8] = 0
    seen = portrait(values)
    assert seen.pattern == "4:8"
    drawn = weights.pattern(seen, 40).plain
    assert "4 of 8 stay 100.0%" in drawn
    assert "····■■■■ ····■■■■" in drawn
