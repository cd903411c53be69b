"""The line above a run's panes: what is being done, how far it is, how fast, the time left and the time gone by."""

from __future__ import annotations

from rich.text import Text

from engine import figures
from engine.state import RunState, StepState
from tui.follow import behind
from tui.widgets.frame import TIGHT
from tui.widgets.layers import outcome_line
from tui.widgets.states import bar, mark

WIDE, ROOMY = 100, 120
"""columns from which the bar is long, and from which the rate is told"""


def line(state: RunState, status: str, now: float, width: int) -> Text:
    """All that fits into `width` columns."""
    text = Text.assemble(" ", mark(status), no_wrap=True, overflow="ellipsis")
    if state.ahead:
        return text.append(f"  {behind(state)}")
    step = state.steps.get(state.current) if state.current is not None else None
    if step and step.status == "running":
        text.append_text(_at(step, now, width))
    if state.finished:
        text.append_text(outcome_line(state))
    return text.append(f"  {figures.duration(_took(state, now))}", "bright_black")


def _at(step: StepState, now: float, width: int) -> Text:
    """The step at work: done of total, bar, share, rate, time left."""
    text = Text.assemble((f"  {step.use}", "bold"))
    if step.total:
        unit = f" {step.unit}" if step.unit not in ("", step.label) else ""
        label = "" if width < TIGHT else f" {step.label}"
        text.append(f"{label} {step.done}/{step.total}{unit}  ")
        text.append_text(bar(step.done, step.total, 24 if width >= WIDE else 8 if label else 0))
        text.append(f" {100 * step.done // step.total}%", "bold")
    gone = max(0.0, now - step.started) if step.started else 0
    if step.done and gone > 0:
        text.append(f"  {step.done / gone:.2g} {step.unit or 'done'}/s" if width >= ROOMY else "")
        text.append(f"  ETA {figures.duration(step.eta(now))}")
    return text


def _took(state: RunState, now: float) -> float:
    """Seconds that the run took, or has taken so far."""
    if state.finished and state.seconds is not None:
        return state.seconds
    until = (state.updated or now) if state.finished else now
    return max(0.0, until - (state.started or now))
