"""The Prompts screen: the A/B table, the race, one prompt in full, examples on which two differ."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, append, notices, settle, words
from textual.widgets import Static

from engine import events as ev
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, PROMPTS
from engine.runs import Run
from engine.state import RunState
from tui.app import CompressApp
from tui.screens.dialogs import Reader
from tui.widgets import candidates, examples
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


@SIZES
async def test_the_race_names_who_is_in_and_who_dropped_out_live(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("racing", alive=True)
    events = run.events_file.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(events) if '"round": 3' in line) + 1  # one prompt has met its third round
    run.events_file.write_text("".join(events[:cut]))
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3", "shift+tab")
        await settle(pilot)
        assert app.screen.active.id == "race-pane"
        before = [line.split() for line in race_lines(app)]
        assert before[0][:3] == ["round", "3", "●"]
        assert before[3] == ["●", "in", "c03", "77.8%", "n", "80"], "the better ones first"
        append(run, *(line.rstrip() for line in events[cut:]))
        await settle(pilot)
        assert [line.split() for line in race_lines(app)[:6]] == [
            ["round", "3", "●●●", "3"],
            ["●", "in", "c03", "77.8%", "n", "160"],
            ["○", "out", "c02", "75.2%", "n", "160"],
            ["○", "out", "plain", "63.9%", "n", "160"],
            ["round", "2", "●●●●●", "5"],
            ["○", "out", "c01", "67.1%", "n", "80"],
        ]
        assert "● in  c03" in words(app)
        await pilot.press("G")
        await settle(pilot)
        assert "○ out c05" in words(app)


def race_lines(app: CompressApp) -> list[str]:
    return str(app.screen.query_one("#race", Static).content).splitlines()


async def test_races_of_two_steps_stand_apart(make_run: MakeRun) -> None:
    run = make_run("finished")
    won = ev.CandidateScored(step=2, candidate="a01", stage="pruned", split="dev", calibration="batch", n=160, accuracy=0.9,
                             low=0.8, high=1.0, round=1)  # fmt: skip
    later = [
        ev.CandidateAdded(step=2, candidate="a01", text="x", origin="adjusted", tokens=3),
        won,
        replace(won, candidate="c03", round=4, alive=False, accuracy=0.7),
        ev.CandidateAdded(step=2, candidate="a02", text="y", origin="adjusted", tokens=3),
    ]
    append(run, *map(ev.to_json, later))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "shift+tab")
        await settle(pilot)
        lines = [" ".join(line.split()) for line in race_lines(app)]
        assert lines[:3] == ["chosen ★ c03", "step 3 export", "round 4 ● 1"]
        assert lines[3:6] == ["○ out c03 70.0% n 160", "round 1 ●● 2", "● in a01 90.0% n 160"]
        assert lines[6:8] == ["entered ●●● 3", "● in a02 no figure yet"]
        assert lines[8:10] == ["step 2 select_prompt", "round 3 ●● 2"]


async def test_one_prompt_in_full(make_run: MakeRun) -> None:
    run = make_run("finished")
    disturbed = ev.PromptPerturbed(step=1, candidate="c03", stage="pruned", perturbation="typos", n=200, changed=198,
                                   accuracy=0.745, low=0.680, high=0.801, before=0.775, change_low=-0.065,
                                   change_high=0.005)  # fmt: skip
    append(run, ev.to_json(disturbed))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        shown = words(app)
        assert "74.5% (-3.0 [-6.5, +0.5]) n=200, 198 disturbed" in shown
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
        for which, count in (("chosen better", 8), ("baseline better", 0), ("all", 24), ("different", 8)):
            await pilot.press("f")
            await settle(pilot)
            assert examples.row_count == count
            assert which in str(app.screen.query_one("#examples-pane").border_title)
        assert app.screen.active.id == "examples-pane"
        assert str(examples.get_cell("0", "base")) == "✗ positive"
        assert str(examples.get_cell("0", "best")) == "✓ negative"
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        assert "right answer negative" in app.screen.text.plain
        text = app.screen.text.plain
        assert "plain ✗ positive · 6 tokens · 18.2 ms a row" in text
        assert "negative        -2.40  37.8% ████████\n" in text  # e^-2.4 beside e^-1.9
        assert "Review: it 's a charming and often affecting journey .\nSentiment:" in text
        await pilot.press("escape")


@SIZES
async def test_panes_without_figures_or_examples_say_what_will_appear(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("racing", alive=True)
    told = [line for line in run.events_file.read_text().splitlines() if "candidate_scored" not in line]
    run.events_file.write_text("".join(f"{line}\n" for line in told))
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3", "shift+tab")
        await settle(pilot)
        assert "Who is in and who dropped out appears here" in race_lines(app)[-1]
        await pilot.press("shift+tab")
        await settle(pilot)
        assert app.screen.active.id == "examples-pane"
        assert app.focused is app.screen.query_one("#examples")
        assert "Each test row with both prompts' answers appears here" in words(app)
        append(run, ev.to_json(ev.RunCancelled(seconds=1.0)))
        await settle(pilot)
        assert "The run ended before its prompts were tested." in words(app)


async def test_examples_of_another_kind_are_a_key_away(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "f", "f")
        await settle(pilot)
        assert "None of these two prompts' examples is baseline better: f shows others." in words(app)
        await pilot.press("f")
        await settle(pilot)
        assert "f shows others" not in words(app)


async def test_a_run_that_ended_without_prompts_says_so(make_run: MakeRun) -> None:
    app = app_on(make_run("cancelled"))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert "The run ended before a step that chooses prompts" in words(app)


async def test_without_prompts_it_says_when_they_come(make_run: MakeRun) -> None:
    app = app_on(make_run("running", alive=True))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert "No prompts yet" in words(app)


def walked() -> list[str]:
    """What a walk over two levels says, in lines."""
    out: list[ev.Event] = []
    for place, (level, sparsity) in enumerate((("dense", 0.0), ("50%", 0.5))):
        for number, kind in enumerate(PROMPTS):
            if sparsity or kind not in (CARRIED_TEXT, CARRIED_SOFT):
                right = 0.8 + 0.01 * number - 0.2 * place
                out.append(ev.GridScored(step=1, level=level, sparsity=sparsity, prompt=kind, candidate=f"s.{kind}",
                                         calibration="batch", n=100, accuracy=right, low=right - 0.05, high=right + 0.05,
                                         margin=0.4, chosen=kind == "soft"))  # fmt: skip
    out.append(ev.Recovered(step=1, level="50%", prompt="soft", n=100, value=0.2, low=0.1, high=0.3, gap=0.2, gap_low=0.1,
                            gap_high=0.3))  # fmt: skip
    return [ev.to_json(event) for event in out]


async def test_the_grid_of_levels_is_there_where_there_is_one(make_run: MakeRun) -> None:
    run = make_run("finished")
    append(run, *walked())
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        table = app.screen.query_one("#grid", LiveTable)
        names = [pane.label for pane in app.screen.panes]
        assert names == ["Prompts", "Prompt", "Examples", "Levels", "Race"]
        await pilot.press("tab", "tab", "tab")
        await settle(pilot)
        assert app.screen.active.id == "grid-pane"
        shown = words(app)
        for text in ("dense", "80.0", "★84.0", "★64.0", "20%", "→text", "recov."):
            assert text in shown
        assert table.virtual_size.width <= table.size.width


async def test_without_levels_no_pane_is_kept_for_them(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert "Levels" not in [pane.label for pane in app.screen.panes]
        assert not app.screen.query_one("#grid-pane").display


def judged_by(run: Run, metric: str) -> None:
    """The run as if its task had free answers and this metric."""
    kinds = {ev.CandidateScored.kind, ev.PromptsCompared.kind}
    lines = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    told = [line | ({"metric": metric} if line.get("kind") in kinds else {}) for line in lines]
    run.events_file.write_text("".join(json.dumps(line) + "\n" for line in told))
    for file in run.artifacts.glob(examples.FILES):
        answered = [json.loads(line) | {"metric": metric} for line in file.read_text().splitlines()]
        for answer in (answer for example in answered for answer in example["answers"].values()):
            answer["value"] = 0.75 if answer.pop("correct") else 0.25
        file.write_text("".join(json.dumps(example) + "\n" for example in answered))


async def test_another_metric_than_accuracy_is_shown_as_it_is(make_run: MakeRun) -> None:
    run = make_run("finished")
    judged_by(run, "chrf")
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        table = app.screen.query_one("#candidates", LiveTable)
        row = {c.key.value: str(table.get_cell("c03", c.key)) for c in table.ordered_columns}
        assert (row["dense"], row["compressed"], row["difference"]) == ("85.1", "76.8", "+13.9")
        shown = words(app)
        assert "chrf 76.8 [" in shown
        assert "chosen better" in str(app.screen.query_one("#examples-pane").border_subtitle)
        await pilot.press("tab", "tab")
        await settle(pilot)
        assert str(app.screen.query_one("#examples", LiveTable).get_cell("0", "best")) == "75.0 negative"
        await pilot.press("enter")
        await pilot.pause()
        assert "75.0 negative" in app.screen.text.plain


def of_step(step: int, name: str, accuracy: float, stage: str, seq: int) -> list[ev.Event]:
    """A prompt and its figure on 200 test rows."""
    scored = {"split": "test", "calibration": "batch", "n": 200, "low": 0.0, "high": 1.0, "margin": 0.1, "ms": 1.0}
    return [
        ev.CandidateAdded(step=step, candidate=name, text=name, origin="", tokens=9, seq=seq, time=1.0),
        ev.CandidateScored(
            step=step,
            candidate=name,
            stage=stage,
            accuracy=accuracy,
            round=1,
            alive=True,
            seq=seq + 1,
            time=1.0,
            **scored,
        ),
    ]


def test_every_prompt_is_compared_with_what_its_own_step_had_to_beat() -> None:
    """Two prompt steps with other tasks and models: figures of the one say nothing of the other."""
    told: list[ev.Event] = [
        ev.RunStarted(run="r", profile="p", source="s", steps=["prune", "select_prompt"] * 2, seq=1, time=1.0)
    ]
    for step, names, stage in ((1, ("plain", "c1", "c2"), "pruned"), (3, ("2.plain", "2.c1"), "pruned 2")):
        accuracies = dict(zip(names, (0.81, 0.88, 0.7) if step == 1 else (0.55, 0.6), strict=False))
        for name, accuracy in accuracies.items():
            told += of_step(step, name, accuracy, stage, 10 * len(told))
        best, base = names[1], names[0]
        told.append(ev.PromptsCompared(
            step=step, a=best, b=base, stage=stage, split="test", calibration="batch", n=200, verdict="better",
            difference=accuracies[best] - accuracies[base], low=0.01, high=0.2, p_value=0.01, seq=10 * len(told), time=1.0,
        ))  # fmt: skip
        summary = {"task": f"of {step}", "stage": stage, "winner": best, "baseline": base, "calibration": "batch"}
        told.append(ev.StepFinished(step=step, seconds=1.0, summary=summary, seq=10 * len(told) + 5, time=1.0))
    rows = candidates.rows(RunState.of(told))
    shown = {name: (str(row["difference"] or ""), row["verdict"]) for name, row in rows.items()}
    assert shown == {
        "2.c1": ("+5.0", "better"), "2.plain": ("", "baseline"),
        "c1": ("+7.0", "better"), "plain": ("", "baseline"), "c2": ("-11.0", None),
    }  # fmt: skip


async def test_enter_says_that_there_are_no_examples_yet(make_run: MakeRun) -> None:
    app = app_on(make_run("racing", alive=True))
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("3")
        await settle(pilot)
        app.screen.activate(app.screen.query_one("#examples-pane"))
        await pilot.press("enter")
        await settle(pilot)
        assert "no examples yet" in notices(app)[-1]
