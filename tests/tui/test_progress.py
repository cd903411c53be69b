"""The line above a run's panes: the time left is in sight at every width, and what is done before the first step."""

from __future__ import annotations

import pytest

from engine import events as ev
from engine.state import RunState
from tui.widgets import progress

STARTED = ev.RunStarted(run="r", profile="demo", source="demo", steps=["select_prompt"], seq=1, time=1000.0)


def at_work() -> RunState:
    state = RunState()
    for event in (
        STARTED,
        ev.StepStarted(step=0, use="select_prompt", seq=2, time=1000.0),
        ev.Progress(step=0, label="racing prompts", done=0, total=1500, unit="examples", seq=3, time=1000.0),
        ev.Progress(step=0, label="racing prompts", done=800, total=1500, unit="examples", seq=4, time=1060.0),
    ):
        state.apply(event)
    return state


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 160])
def test_the_time_left_is_in_sight_at_every_width(width: int) -> None:
    line = progress.line(at_work(), "running", 1060.0, width)
    seen = line.plain
    assert line.cell_len <= max(width, 52)
    assert all(told in seen for told in ("select_prompt", "800/1500", "53%", "ETA 52"))
    assert width < 80 or seen.endswith("ETA 52.5 s  1 m 00 s")


def test_what_there_is_room_for_is_told() -> None:
    told = {width: progress.line(at_work(), "running", 1060.0, width).plain for width in (60, 80, 160)}
    assert "racing prompts" not in told[60]
    assert "racing prompts 800/1500  " in told[80]
    assert "racing prompts 800/1500 examples  " in told[160]


def test_before_the_first_step_it_says_what_the_run_said_last() -> None:
    state = RunState()
    for event in (STARTED, ev.Log(message="loading demo", seq=2, time=1001.0)):
        state.apply(event)
    assert "running  loading demo  5.0 s" in progress.line(state, "running", 1005.0, 80).plain
    long = ev.Log(message="reading " + "x" * 200, seq=3, time=1002.0)
    state.apply(long)
    assert progress.line(state, "running", 1005.0, 80).cell_len <= 80
