"""The rail of steps by itself: it brings the step at work into sight, whenever it is laid out."""

from __future__ import annotations

import pytest
from recorded import RECORDED
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from engine import events as ev
from engine.state import RunState
from tui.usage import Usage
from tui.widgets.rail import StepRail, whole


class Alone(App[None]):
    """A rail that is out of sight at first."""

    def compose(self) -> ComposeResult:
        rail = StepRail()
        rail.display = False
        yield rail


async def look(pilot: Pilot[None]) -> None:
    for _ in range(3):
        await pilot.pause()


@pytest.mark.parametrize("before", [True, False], ids=["hidden-when-told", "shown-when-told"])
async def test_the_last_step_is_brought_into_sight(before: bool) -> None:
    lines = (RECORDED / "finished.jsonl").read_text().splitlines()
    state = RunState.of([ev.from_json(line) for line in lines])
    async with Alone().run_test(size=(26, 12)) as pilot:
        rail = pilot.app.query_one(StepRail)
        if before:
            rail.show(state, 0.0)
            await look(pilot)
        rail.display = True
        await look(pilot)
        if not before:
            rail.show(state, 0.0)
            await look(pilot)
        assert rail.scroll_y > 0
        rail.scroll_to(y=0, animate=False)
        await look(pilot)
        rail.show(state, 1.0)
        await look(pilot)
        assert rail.scroll_y == 0, "who scrolls away is left there"


async def test_no_label_is_so_long_that_the_last_line_goes() -> None:
    lines = (RECORDED / "running.jsonl").read_text().splitlines()
    state = RunState.of([ev.from_json(line) for line in lines])
    usage = [Usage(memory=10**9, cpu=1.5)]
    async with Alone().run_test(size=(26, 60)) as pilot:
        rail = pilot.app.query_one(StepRail)
        rail.display = True
        await look(pilot)
        for label in ("pruning", "sampling the calibration text of every level"):
            assert state.current is not None
            state.steps[state.current].label = label
            rail.show(state, state.updated or 0.0, usage)
            await look(pilot)
            shown = "".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
            assert "cores  1.5" in shown


def test_what_a_step_came_to_has_units() -> None:
    state = RunState()
    summary = {"bytes": 538090408, "identical": True, "sparsity": 0.5, "mean_error": 0.0298}
    for event in (
        ev.StepStarted(step=0, use="export", seq=1),
        ev.StepFinished(step=0, seconds=1.0, summary=summary, seq=2),
    ):
        state.apply(event)
    shown = whole(state, 0.0).plain
    assert all(told in shown for told in ("bytes 538 MB", "identical yes", "sparsity 50.0%", "mean error 0.030"))
