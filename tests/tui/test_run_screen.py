"""The Run screen on recorded events: live, finished, failed, crashed; sorting, filtering, pausing, cancelling, resuming."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, append, kill, notices, settle, words

from engine import events as ev
from engine import runs
from engine.state import RunState
from tui.follow import Follower, Look
from tui.screens.dialogs import Choice, Reader
from tui.screens.run import RunScreen
from tui.widgets.chart import RunChart
from tui.widgets.pane import Pane
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


async def test_what_is_cut_at_80_columns_is_an_enter_away(make_run: MakeRun) -> None:
    run = make_run("finished")
    told = "a word that is much longer than the steps' pane is wide"
    summary = {f"fact {n}": n for n in range(6)} | {"words": told}
    append(run, ev.to_json(ev.StepFinished(step=2, seconds=1.0, summary=summary, seq=9000)))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert told not in words(app)
        app.screen.activate(app.screen.query_one("#steps-pane"))
        await settle(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        assert told in app.screen.text.plain
        assert "fact 5 5" in app.screen.text.plain
        assert "134.5M params" in app.screen.text.plain
        await pilot.press("escape")
        app.screen.activate(app.screen.query_one("#figures-pane"))
        await settle(pilot)
        assert "to dense" not in words(app)
        app.screen.query_one("#figures", LiveTable).select("perplexity pruned")
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        lines = [line.split(maxsplit=1) for line in app.screen.text.plain.splitlines()]
        assert ["stage", "pruned"] in lines
        assert "to dense      ×1.45" in app.screen.text.plain


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
        assert "a new line" in app.follower.state.log[-1].message


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
        await pilot.press("tab", "tab", "tab")
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
        for _ in range(6):
            seen.append(app.screen.active.id)
            assert app.screen.active.display
            await pilot.press("tab")
            await settle(pilot)
        assert seen == ["layers-pane", "blocks-pane", "chart-pane", "figures-pane", "log-pane", "steps-pane"]


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
        legend = str(chart.query_one("#curves").content)
        assert "error 0.0479" in legend
        assert "perplexity 25.31" in legend
        await pilot.press("c")
        assert chart.curve == "sparsity"
        await pilot.press("c", "c")
        assert chart.curve == "error"


async def test_a_growing_curve_is_drawn_now_and_then_and_whole_in_the_end(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("running", alive=True)
    last, drawn = run.events()[-1], []
    app = app_on(run)
    monkeypatch.setattr(app, "now", lambda: last.time + len(drawn) / 10)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        chart.curve = "loss"
        for number in range(1, 16):  # a loss every tenth of a second
            loss = ev.LossMeasured(step=0, part="train", loss=1 / number, done=number, total=100, per_second=1.0,
                                   seq=last.seq + number, time=last.time + number / 10)  # fmt: skip
            append(run, ev.to_json(loss))
            await settle(pilot)
            drawn.append(points(chart))
        assert drawn[0] == 0
        assert len(set(drawn)) == 3
        drawn += [0] * 20
        await settle(pilot)
        assert points(chart) == 15


def points(chart: RunChart) -> int:
    """How many points of the leading curve are drawn."""
    sets = chart._plot._datasets if chart._plot and chart._drawn[1:2] == ("loss",) else ()
    return len(sets[-1].x) if sets else 0


async def test_the_chart_never_keeps_the_curve_of_another_run(make_run: MakeRun) -> None:
    other = make_run("finished", name="20251123T160000-demo-old1")
    text = other.events_file.read_text()
    other.events_file.write_text(text.replace('"error": 0.0', '"error": 1.0'))  # as many points, ten times as high
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        before = list(chart._plot._datasets[0].y)
        app.attach(Follower(other))
        await settle(pilot)
        assert len(chart._plot._datasets[0].y) == len(before)
        assert min(chart._plot._datasets[0].y) > max(before)


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


async def test_no_key_moves_a_paused_display(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        name = "model.layers.12.self_attn.q_proj.weight"
        pruned = ev.LayerPruned(
            step=0, layer=name, block=12, shape=[576, 576], sparsity=0.625, error=0.5, seconds=1.0, done=85, total=210,
            seq=5000, time=1.0,
        )  # fmt: skip
        await pilot.press("space")
        await settle(pilot)
        still = app.now()
        append(run, ev.to_json(pruned), ev.to_json(ev.RunCancelled(seconds=1.0, seq=5001, time=2.0)))
        for key in ("j", "s", "tab", "c", "1", "2"):
            await pilot.press(key)
            await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert str(table.get_cell(name, "sparsity")) == "-"
        assert "▶ running" in words(app)
        assert app.now() == still
        await pilot.press("space")
        await settle(pilot)
        assert str(table.get_cell(name, "sparsity")) == "62.5%"
        assert "■ cancelled" in words(app)


async def test_a_failure_is_told_with_its_hint(make_run: MakeRun) -> None:
    app = app_on(make_run("failed"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        shown = words(app)
        assert "calibration.source: the text is too short" in shown
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
        assert shown.count("✗ crashed") == 2  # on top and in the line of progress
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


async def test_the_list_of_runs_sorts_ages_by_time_and_not_as_text(make_run: MakeRun) -> None:
    ages = {"40s": 40, "9m": 9 * 60, "10m": 600, "2h": 7200}
    for age, seconds in ages.items():
        run = make_run("failed", name=f"20251123T160000-demo-{age}")
        finished = ev.RunFailed(message="x", seq=9000, time=time.time() - seconds)
        append(run, ev.to_json(finished))
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        await pilot.press("s", "s")
        table = app.screen.query_one(LiveTable)
        assert table.sort_key == "age"
        assert [key.rsplit("-", 1)[-1] for key in table.order] == ["2h", "10m", "9m", "40s"]


async def test_figures_sort_by_their_number(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=(180, 45)) as pilot:
        await settle(pilot)
        app.screen.activate(app.screen.query_one("#figures-pane"))
        await settle(pilot)
        table = app.screen.query_one("#figures", LiveTable)
        await pilot.press("s", "s", "s")
        assert table.sort_key == "value"
        assert [key.split()[0] for key in table.order[:2]] == ["peak_memory_bytes", "peak_memory_bytes"]
        assert table.order[-1] == "sparsity dense"


# Plans, blocks, recovery, structure


@SIZES
async def test_a_plan_stands_beside_what_was_reached(size: tuple[int, int], make_run: MakeRun) -> None:
    app = app_on(make_run("allocated", alive=True))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("shift+tab")
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert {"layer", "planned", "sparsity", "error"} <= {c.key.value for c in table.ordered_columns}
        assert table.virtual_size.width <= table.size.width
        assert str(table.get_cell("model.layers.0.self_attn.q_proj.weight", "planned")) == "36.0%"
        assert "0.self_attn.q_proj" in words(app) or "9.self_attn.q_proj" in words(app)
        assert "memory 2.1 of 7.9 GB" in words(app)


@SIZES
async def test_recovery_goes_block_by_block(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("allocated", alive=True)
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#blocks", LiveTable)
        assert app.screen.query_one("#blocks-pane").display  # it comes up by itself
        assert table.selected == "17"
        assert (str(table.get_cell("17", "before")), str(table.get_cell("17", "after"))) == ("0.1024", "0.0664")
        assert str(table.get_cell("3", "what")) == "kept as it was"
        assert "error -35%" in words(app)
        assert "18 of 30 recovered · error 0.0667 → 0.0424" in words(app)
        done = ev.BlockRecovered(
            step=2, block=18, before=0.2, after=0.1, seconds=2.0, done=19, total=30, seq=5000, time=1_764_000_999.0
        )
        append(run, ev.to_json(done))
        await settle(pilot)
        assert table.selected == "18"
        assert "19 of 30 recovered" in words(app)
        app.screen.activate(app.screen.query_one("#blocks-pane"))
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        assert "0.20000 → 0.10000" in words(app)


async def test_the_chart_starts_with_the_loss_while_a_model_is_trained(make_run: MakeRun) -> None:
    app = app_on(make_run("distilling", alive=True))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        assert "● loss 3.20 → 3.10" in words(app)
        held_out, training = chart._plot._datasets
        assert (len(held_out.x), len(training.x)) == (3, 8)


async def test_the_chart_shows_how_a_prompt_is_trained(make_run: MakeRun) -> None:
    """Its skill while it is; the loss, and what else there is, a key away."""
    run = make_run("racing", alive=True)
    last = run.events()[-1]
    told: list[ev.Event] = [ev.StepStarted(step=1, use="embed_prompt")]
    for epoch in range(4):
        told.append(ev.Progress(step=1, label="training soft", done=epoch, total=3, unit="optimizer steps"))
        loss = 1.5 - epoch / 4 if epoch else None
        told.append(ev.PromptTrained(step=1, candidate="soft", epoch=epoch, epochs=3, loss=loss, accuracy=0.5, n=40,
                                     skill=0.5 + epoch / 10, best=True, seconds=2.0))  # fmt: skip
    append(run, *[ev.to_json(replace(e, seq=last.seq + i, time=last.time + i)) for i, e in enumerate(told, 1)])
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        assert "● prompt skill 0.8000" in words(app)
        (skill,) = chart._plot._datasets
        assert list(skill.y) == pytest.approx([0.5, 0.6, 0.7, 0.8])
        while chart.curve != "prompt loss":
            await pilot.press("c")
        assert "● prompt loss 0.7500" in words(app)


async def test_the_chart_offers_recovery_and_starts_with_it_while_it_runs(make_run: MakeRun) -> None:
    app = app_on(make_run("allocated", alive=True))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        chart = app.screen.query_one(RunChart)
        assert "● recovery 0.1024 → 0.0664" in words(app)
        before, after = chart._plot._datasets
        assert all(a <= b for a, b in zip(after.y, before.y, strict=True))
        await pilot.press("c")
        assert chart.curve == "error"


async def test_the_pane_is_chosen_when_the_run_has_been_read_and_not_before(make_run: MakeRun) -> None:
    app = app_on(make_run("structured"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, RunScreen)
        assert app.follower is not None
        screen.new_run(app.follower)
        screen.activate(screen.query_one("#layers-pane", Pane))
        screen.show_state(RunState())
        screen.show_state(app.follower.state)
        await settle(pilot)
        assert screen.active.id == "blocks-pane"
        assert screen.query_one("#blocks-pane").display


@SIZES
async def test_what_structured_pruning_took_out(size: tuple[int, int], make_run: MakeRun) -> None:
    app = app_on(make_run("structured"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#blocks", LiveTable)
        assert app.screen.query_one("#blocks-pane").display
        assert str(table.get_cell("21", "what")) == "removed"
        assert str(table.get_cell("20", "what")).startswith("error -")
        assert "head groups kept" in words(app)
        table.select("29")
        app.screen.activate(app.screen.query_one("#blocks-pane"))
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        for text in ("1152 of 1536 channels stay", "2 of 3 head groups stay", "0.14440 →"):
            assert text in words(app)


async def test_a_run_with_nothing_loaded_says_when_blocks_appear(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    run.events_file.write_text("".join(run.events_file.read_text().splitlines(keepends=True)[:1]))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert "blocks appear when the model is loaded" in words(app)


@SIZES
async def test_the_layers_pane_says_when_layers_appear_and_keeps_the_keys(
    size: tuple[int, int], make_run: MakeRun
) -> None:
    run = make_run("running", alive=True)
    events = run.events_file.read_text().splitlines()
    run.events_file.write_text("\n".join(events[:2]) + "\n")
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert "layers appear when the model is loaded" in " ".join(words(app).split())
        assert app.screen.active.id == "layers-pane"
        append(run, *events[2:])
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert app.focused is table
        assert table.selected == "model.layers.11.mlp.down_proj.weight"
        assert "layers appear" not in words(app)


async def test_a_need_in_a_smaller_unit_than_what_there_is_stays_readable(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    append(run, ev.to_json(ev.Estimated(name="memory", value=460e6, available=22.9e9, unit="B", seq=5000, time=1.0)))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        app.screen.activate(app.screen.query_one("#steps-pane"))
        await settle(pilot)
        assert "memory 460 MB of" in words(app)


async def test_a_run_that_ended_before_its_model_was_loaded_says_so(make_run: MakeRun) -> None:
    run = make_run("running")
    first = run.events_file.read_text().splitlines()[0]
    run.events_file.write_text(f"{first}\n{ev.to_json(ev.RunFailed(message='no such model', seq=2, time=1.0))}\n")
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert "The run ended before its model was loaded." in words(app)


async def test_a_look_at_the_run_before_does_not_hold_back_the_open_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, look = threading.Event(), Follower.look
    other = make_run("failed", name="20251123T160000-demo-old1")
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        before = app.follower

        def slowly(follower: Follower) -> Look:
            assert follower is not before or go_on.wait(20)
            return look(follower)

        monkeypatch.setattr(Follower, "look", slowly)
        app.tick()
        await pilot.pause()
        try:
            app.attach(Follower(other))
            while app.follower.status == "reading":
                await pilot.pause()
            assert app.follower.state.status == "failed"
        finally:
            go_on.set()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
async def test_quantized_matrices_fill_the_table(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    last, names = run.events()[-1], list(run.state().layers)
    planned = ev.BitsPlanned(step=0, bits={names[200]: 3}, size_ratio=0.3, seq=last.seq + 1, time=last.time)
    coded = ev.LayerQuantized(step=0, layer=names[199], block=28, shape=[64, 64], bits=4, group=32, error=0.01, seconds=0.5,
                              done=1, total=1, seq=last.seq + 2, time=last.time)  # fmt: skip
    append(run, ev.to_json(planned), ev.to_json(coded))
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#layers", LiveTable)
        assert table.selected == names[199]
        assert (str(table.get_cell(names[199], "bits")), str(table.get_cell(names[200], "bits"))) == ("4", "(3)")
        assert "85 of 210 · sparse 50.0% · 4.00 bits" in words(app)
        await pilot.press("enter")
        await settle(pilot)
        assert "codes       4 bits" in app.screen.text.plain


async def test_the_log_is_filtered_by_level_and_copied_as_shown(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    last = run.events()[-1]
    for number, (level, said) in enumerate((("warning", "one head is left"), ("info", "all is well")), start=1):
        append(run, ev.to_json(ev.Log(message=said, level=level, seq=last.seq + number, time=last.time)))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        app.screen.activate(app.screen.query_one("#log-pane", Pane))
        await pilot.press("slash", *"warning", "enter")
        await settle(pilot)
        await pilot.press("y")
        line = time.strftime("%H:%M:%S", time.localtime(last.time)) + " warning: one head is left"
        *earlier, newest = app.clipboard.splitlines()
        assert newest == line
        assert all(" warning: " in warning for warning in earlier)
        await pilot.press("slash", *"zebra")
        await settle(pilot)
        assert "No line has “zebra” in it." in words(app)
        await pilot.press("escape")
        await settle(pilot)
        assert "No line has" not in words(app)
        assert "all is well" in words(app)


@pytest.mark.parametrize("recording", ["finished", "failed", "running"])
async def test_the_report_is_a_key_away(recording: str, make_run: MakeRun) -> None:
    run = make_run(recording, alive=recording == "running")
    make_run("failed", name="20991124T160000-newer-0000")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("R")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        report = app.screen.text.plain
        assert run.state().run in report
        await pilot.press("escape", "colon", *"report", "enter")
        await settle(pilot)
        assert app.screen.text.plain == report  # of the open run, not of the newest


async def test_a_run_that_is_opened_brings_its_model_to_the_command_line(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    other = make_run("failed", source="./another/model")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        app.attach(Follower(other))
        await settle(pilot)
        await pilot.press("colon")
        await settle(pilot)
        assert "about model" in words(app)
        assert app.screen.source == "./another/model"
