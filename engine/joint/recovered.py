"""What of a level's loss its prompts win back, on the test rows."""

from __future__ import annotations

from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, PLAIN, SOFT, TEXT
from engine.joint.grid import GridRow
from engine.joint.levels import Level
from engine.prompts import recovered
from engine.workspace import Workspace

CONTROLS = {CARRIED_TEXT: TEXT, CARRIED_SOFT: SOFT}
"""the dense model has no level before it: what stands for a carried prompt there"""


def tell(workspace: Workspace, level: Level, row: GridRow, dense: GridRow) -> None:
    """Of every kind of prompt at a level above the first."""
    base, top = row.cells[PLAIN].right, dense.cells[PLAIN].right
    for kind, cell in row.cells.items():
        if kind != PLAIN:
            same = dense.cells.get(CONTROLS.get(kind, kind))
            recovered.tell(workspace, kind, cell.right, base, top, same.right if same else None, level=level.name)
