"""Panes of a run that have nothing to show yet: what they say instead."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, append, notices, settle, words

from engine import events as ev
from tui.app import CompressApp

BEGUN = [
    {
        "kind": "run_started",
        "seq": 1,
        "time": 1.764e9,
        "run": "r",
        "profile": "p",
        "source": "demo",
        "steps": ["prune"],
    },
]
ENDED = [*BEGUN, {"kind": "run_cancelled", "seq": 2, "time": 1.764e9, "seconds": 1.0}]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("told", "figures"),
    [
        (BEGUN, "Perplexity, accuracy, size and speed appear here"),
        (ENDED, "The run ended before anything was measured. r"),
    ],
)
async def test_empty_panes_say_what_will_appear_and_stop_when_it_does(
    told: list[dict[str, Any]], figures: str, size: tuple[int, int], make_run: MakeRun
) -> None:
    run = make_run("running", alive=True)
    run.events_file.write_text("".join(json.dumps(record) + "\n" for record in told))
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for pane, words_of_it in (("figures", figures), ("log", "What the run has to say appears here")):
            app.screen.activate(app.screen.query_one(f"#{pane}-pane"))
            await settle(pilot)
            assert words_of_it in shown_in(app, f"#{pane}-pane")
            assert app.focused is app.screen.query_one(f"#{pane}"), "the keys have a place"
        metric = ev.Metric(step=-1, stage="dense", name="perplexity", value=17.4, seq=8, time=1.764e9)
        append(run, ev.to_json(metric), ev.to_json(ev.Log(message="hello", seq=9, time=1.764e9)))
        await settle(pilot)
        assert "hello" in words(app)
        assert "appears here" not in words(app)
        app.screen.activate(app.screen.query_one("#figures-pane"))
        await settle(pilot)
        assert "17.40" in words(app)
        assert "value [95%]" in words(app)
        assert "here" not in shown_in(app, "#figures-pane")


def shown_in(app: CompressApp, pane: str) -> str:
    """The words within a pane, as one line."""
    region = app.screen.query_one(pane).content_region
    lines = [line[region.x : region.right].strip() for line in words(app).splitlines()]
    return " ".join(lines[region.y : region.bottom])


async def test_enter_on_a_pane_without_rows_says_so(make_run: MakeRun) -> None:
    run = make_run("running", alive=True)
    run.events_file.write_text("".join(json.dumps(record) + "\n" for record in BEGUN))
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        for pane in ("layers", "figures"):
            app.screen.activate(app.screen.query_one(f"#{pane}-pane"))
            await settle(pilot)
            await pilot.press("enter")
            await settle(pilot)
            assert notices(app)[-1] == "there is nothing here yet"
