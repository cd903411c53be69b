"""What of a level's loss its prompts win back, on the test rows."""

from __future__ import annotations

from engine import events as ev
from engine import statistics
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, PLAIN, SOFT, TEXT
from engine.joint.grid import GridRow
from engine.joint.levels import Level
from engine.workspace import Workspace

CONTROLS = {CARRIED_TEXT: TEXT, CARRIED_SOFT: SOFT}
"""the dense model has no level before it: what stands for a carried prompt there"""


def tell(workspace: Workspace, level: Level, row: GridRow, dense: GridRow) -> None:
    """Of every kind of prompt at a level above the first."""
    seed, base, top = workspace.profile.seed, row.cells[PLAIN].right, dense.cells[PLAIN].right
    for kind, cell in row.cells.items():
        if kind == PLAIN:
            continue
        found = statistics.regained(cell.right, base, top, seed)
        same = dense.cells.get(CONTROLS.get(kind, kind))
        gain = statistics.compare(same.right, top, seed) if same else None
        control = (gain.difference, gain.low, gain.high) if gain else (None, None, None)
        workspace.emit(
            ev.Recovered(
                step=workspace.step, level=level.name, prompt=kind, n=found.gap.n, value=found.value, low=found.low,
                high=found.high, gap=found.gap.difference, gap_low=found.gap.low, gap_high=found.gap.high,
                control=control[0], control_low=control[1], control_high=control[2],
            )
        )  # fmt: skip
