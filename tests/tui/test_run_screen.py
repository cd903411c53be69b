"""The Run screen on recorded events: live, finished, failed, crashed; sorting, filtering, pausing, cancelling, resuming."""

from __future__ import annotations

import signal

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, append, kill, notices, settle, words

from engine import events as ev
from engine import runs
from tui.screens.dialogs import Choice
from tui.widgets.chart import RunChart
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


@SIZES
async def test_a_running_run_is_shown_as_it_is(size: tuple[int, int], make_run: MakeRun) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert table.row_count == 210
        assert str(table.get_cell("model.layers.0.self_attn.q_proj.weight", "sparsity")) == "50.0%"
        assert str(table.get_cell("model.layers.29.mlp.down_proj.weight", "error")) == "-"
        assert table.selected == "model.layers.11.mlp.down_proj.weight"  # the newest
        shown = words(app)
        for text in ("▶ running", "pruning 12/30", "40%", "ETA", "✓ measure", "waiting", "134.5M"):
            assert text in shown


async def test_new_events_appear(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        name = "model.layers.12.self_attn.q_proj.weight"
        pruned = ev.LayerPruned(
            step=0, layer=name, block=12, shape=[576, 576], sparsity=0.625, error=0.5, seconds=1.0, done=85, total=210,
            seq=5000, time=1_764_000_999.0,
        )  # fmt: skip
        append(run, ev.to_json(pruned), ev.to_json(ev.Log(message="a new line", seq=5001, time=1_764_001_000.0)))
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert str(table.get_cell(name, "sparsity")) == "62.5%"
        assert table.selected == name
        assert "a new line" in app.follower.state.log[-1].message  # type: ignore[union-attr]


async def test_the_cursor_stays_where_it_was_put(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("g", "j")
        name = "model.layers.12.self_attn.q_proj.weight"
        pruned = ev.LayerPruned(
            step=0, layer=name, block=12, shape=[576, 576], sparsity=0.5, error=0.5, seconds=1.0, done=85, total=210,
            seq=5000, time=1.0,
        )  # fmt: skip
        append(run, ev.to_json(pruned))
        await settle(pilot)
        assert app.screen.query_one("#layers", LiveTable).selected == "model.layers.0.self_attn.k_proj.weight"


async def test_a_finished_run_says_what_came_out(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert "✓ done" in words(app)
        assert "17.42 → 25.31" in words(app)
        await pilot.press("tab", "tab")
        await settle(pilot)
        figures = app.screen.query_one("#figures", LiveTable)
        assert figures.order[:3] == ["perplexity dense", "perplexity pruned", "perplexity exported"]
        assert str(figures.get_cell("accuracy:sst2 pruned", "value")) == "62.9% [59.2, 66.3]"
        assert str(figures.get_cell("accuracy:sst2 pruned", "n")) == "436"


async def test_every_pane_can_be_reached_at_80_columns(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        seen = []
        for _ in range(5):
            seen.append(app.screen.active.id)  # type: ignore[attr-defined]
            assert app.screen.active.display  # type: ignore[attr-defined]
            await pilot.press("tab")
            await settle(pilot)
        assert seen == ["layers-pane", "chart-pane", "figures-pane", "log-pane", "steps-pane"]


async def test_sort_and_filter_by_keys(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        await pilot.press("s", "s", "s")
        assert table.sort_key == "error"
        errors = [float(str(table.get_cell(name, "error"))) for name in table.order]
        assert errors == sorted(errors, reverse=True)
        assert table.cursor_row == 0
        await pilot.press("S")
        assert float(str(table.get_cell(table.order[0], "error"))) == min(errors)
        await pilot.press("slash", *"down", "enter")
        await settle(pilot)
        assert table.row_count == 30
        assert "/down" in words(app)
        await pilot.press("escape")
        assert table.row_count == 210


async def test_the_chart_goes_through_its_curves_with_a_number_each(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        assert chart._plot is not None
        assert len(chart._plot._datasets[0].x) <= 2 * chart.size.width
        legend = str(chart.query_one("#curves").content)  # type: ignore[attr-defined]
        assert "error 0.0479" in legend
        assert "perplexity 25.31" in legend
        await pilot.press("c")
        assert chart.curve == "sparsity"
        await pilot.press("c", "c")
        assert chart.curve == "reconstruction error"


async def test_pausing_holds_the_display_and_not_the_run(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("space")
        assert "⏸ paused" in words(app)
        append(run, ev.to_json(ev.RunCancelled(seconds=1.0, seq=5000, time=1.0)))
        app.tick()
        await pilot.pause()
        assert "▶ running  prune" in words(app)
        await pilot.press("space")
        await settle(pilot)
        assert "■ cancelled" in words(app)


async def test_a_failure_is_told_with_its_hint(make_run: MakeRun) -> None:
    app = app_on(make_run("failed"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        shown = words(app)
        assert "✗ failed calibration.source: the text is too short" in shown
        assert "hint: give more text" in shown


@SIZES
async def test_a_crash_shows_the_last_words(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        run.log_file.write_text("Fatal Python error: Segmentation fault\n")
        kill(run)
        await settle(pilot)
        shown = words(app)
        assert "✗ crashed" in shown
        assert "Segmentation fault" in shown
        assert "hint: r goes on" in shown


async def test_cancel_gets_stronger_and_asks_before_killing(make_run: MakeRun, signals: list[int]) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("x")
        assert signals == [signal.SIGINT]
        await pilot.press("x")
        assert signals == [signal.SIGINT, signal.SIGTERM]
        await pilot.press("x")
        await pilot.pause()
        assert isinstance(app.screen, Choice)
        await pilot.press("escape")
        assert len(signals) == 2
        await pilot.press("x")
        await pilot.pause()
        await pilot.press("exclamation_mark")
        await pilot.pause()
        assert signals[-1] == signal.SIGKILL


async def test_cancelling_what_is_over_says_so(make_run: MakeRun, signals: list[int]) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("x", "d")
        await pilot.pause()
        assert notices(app) == ["the run is not going: it is done"] * 2
        assert signals == []


async def test_resume_goes_on_in_the_same_folder(make_run: MakeRun, started: list[tuple[runs.Run, bool]]) -> None:
    run = make_run("cancelled")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("r")
        await settle(pilot)
        assert started == [(run, False)]
        assert "… starting" in words(app)
        await pilot.press("r")
        await pilot.pause()
        assert notices(app)[-1] == "the run is still going"


async def test_another_run_is_opened_from_the_list(make_run: MakeRun) -> None:
    make_run("failed", name="20251123T160000-demo-old1")
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        table = app.screen.query_one(LiveTable)
        states = [str(table.get_cell(name, "status")) for name in table.order]
        assert states == ["✓ done", "✗ failed"]
        await pilot.press("j", "enter")
        await settle(pilot)
        assert app.current_mode == "run"
        assert "✗ failed" in words(app)
        assert app.screen.query_one("#layers", LiveTable).row_count == 210


async def test_copying_the_selected_matrix(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("g", "y")
        assert app.clipboard == "model.layers.0.self_attn.q_proj.weight"
