"""The line above a run's panes: what is being done, how far it is, how fast, the time left and the time gone by."""

from __future__ import annotations

from rich.text import Text

from engine import figures
from engine.state import RunState, StepState
from tui.follow import behind
from tui.widgets.frame import TIGHT
from tui.widgets.layers import outcome_line
from tui.widgets.states import bar, elide, mark

WIDE, ROOMY = 100, 120
"""columns from which the bar is long, and from which the rate is told"""
CLOCK = 14
"""columns for the time gone by"""


def line(state: RunState, status: str, now: float, width: int) -> Text:
    """All that fits into `width` columns."""
    text = Text.assemble(" ", mark(status), no_wrap=True, overflow="ellipsis")
    if state.ahead:
        return text.append(f"  {behind(state.ahead)}")
    step = state.steps.get(state.current) if state.current is not None else None
    took = f"  {figures.duration(_took(state, now))}"
    if step and step.status == "running":
        left = width - text.cell_len
        text.append_text(_at(step, now, width, (left - len(took), left)))
    elif state.log and not state.finished:  # before the first step, and between two: what the run said last
        text.append(f"  {elide(state.log[-1].message, max(0, width - text.cell_len - CLOCK))}")
    if state.finished:
        text.append_text(outcome_line(state))
    return text.append(took if text.cell_len + len(took) <= width else "", "bright_black")


def _at(step: StepState, now: float, width: int, rooms: tuple[int, int]) -> Text:
    """The step at work: done of total, bar, share, rate, time left; unit, bar and label as far as the first of the `rooms` that
    is enough for it has room for them.
    """
    bars = 24 if width >= WIDE else 8
    unit = f" {step.unit}" if step.unit not in ("", step.label) else ""
    label = f" {step.label}" if width >= TIGHT else ""
    parts = ((label, unit, bars), (label, "", bars), (label, unit, 0), (label, "", 0), ("", unit, 0), ("", "", 0))
    told = [_put(step, now, width, *part) for part in parts]
    return next((text for room in rooms for text in told if text.cell_len <= room), told[-1])


def _put(step: StepState, now: float, width: int, label: str, unit: str, bars: int) -> Text:
    text = Text.assemble((f"  {step.use}", "bold"))
    if step.total:
        text.append(f"{label} {step.done}/{step.total}{unit}  ")
        text.append_text(bar(step.done, step.total, bars))
        text.append(f" {100 * step.done // step.total}%", "bold")
    rate = step.rate(now)
    if rate is not None:
        text.append(f"  {rate:.2g} {step.unit or 'done'}/s" if width >= ROOMY else "")
        text.append(f"  ETA {figures.duration(step.eta(now))}")
    return text


def _took(state: RunState, now: float) -> float:
    """Seconds that the run took, or has taken so far."""
    return state.took + (max(0.0, now - (state.updated or now)) if state.status == "running" else 0.0)
