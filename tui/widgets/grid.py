"""The grid of a `joint` step as a table: a row a level, a column a kind of prompt, made from a run's state."""

from __future__ import annotations

from typing import Any

from engine import figures, grids
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, LORA, PLAIN, PROMPTS, SOFT, TEXT
from engine.state import RunState
from tui.widgets.columns import Column, Shown

LABELS = {PLAIN: "plain", CARRIED_TEXT: "→text", TEXT: "text", CARRIED_SOFT: "→soft", SOFT: "soft", LORA: "lora"}
COLUMNS = (
    Column("level", "level"),
    *(Column(kind, LABELS[kind], 6, numeric=True, optional=True) for kind in PROMPTS),
    Column("recovered", "recov.", 6, numeric=True, optional=True),
)
LEGEND = "test accuracy in % · ★ chosen · → from the level before"


def rows(state: RunState) -> dict[str, dict[str, Any]]:
    """Every level of the last such step; `recovered` is what the chosen prompt wins back of what pruning lost."""
    found = grids.steps(state)
    return {} if not found else {level: _row(state, found[-1], level) for level in grids.rows(state, found[-1])}


def _row(state: RunState, step: int, level: str) -> dict[str, Any]:
    cells = grids.rows(state, step)[level]
    chosen = next((kind for kind, event in cells.items() if event.chosen), PLAIN)
    won = state.recovered.get((step, level, chosen))
    recovered = {"recovered": Shown(won.value, figures.share(won.value, 0))} if won and won.value is not None else {}
    shown = {k: Shown(e.accuracy, f"{'★' * e.chosen}{100 * e.accuracy:.1f}") for k, e in cells.items()}
    return {**dict.fromkeys([*PROMPTS, "recovered"]), "level": level, **shown, **recovered}
