"""The report's sections on exported files, as Markdown: their speed on one thread and on more."""

from __future__ import annotations

from engine import figures
from engine.sections import section
from engine.state import RunState


def speeds(state: RunState) -> str:
    """Every file by its number of threads."""
    found = sorted(state.speeds.values(), key=lambda event: (event.step, event.threads))
    body = [
        [event.stage, str(event.threads), figures.number(event.decode, 1), figures.number(event.prefill, 1)]
        for event in found
    ]
    return section("Speed by threads", ["stage", "threads", "decode tok/s", "prefill tok/s"], body)
