"""What of a level's loss its prompts win back: told on the test rows, and asked of the gate on development rows."""

from __future__ import annotations

from collections.abc import Sequence

from engine import events as ev
from engine import statistics
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, PLAIN, SOFT, TEXT
from engine.joint.grid import GridRow
from engine.joint.levels import Level
from engine.joint.options import JointGate
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


def missed(gate: JointGate, row: GridRow, dense: GridRow) -> list[str]:
    """What of the gate the level's chosen prompt does not reach on the development rows, in words."""
    best, base, top = (cell.dev_accuracy for cell in (row.cells[row.chosen], row.cells[PLAIN], dense.cells[PLAIN]))
    out = []
    lost = top - base
    if gate.recovered is not None and lost > 0 and (best - base) / lost < gate.recovered:
        out.append(f"{(best - base) / lost:.2f} of the loss is recovered, at least {gate.recovered:g} is asked")
    if gate.accuracy_drop is not None and top - best > gate.accuracy_drop:
        out.append(f"accuracy drops by {top - best:.3f}, at most {gate.accuracy_drop:g} is asked")
    return out


def meets(gate: JointGate, rows: Sequence[GridRow]) -> bool:
    """Whether the last of the rows does; the first is the dense model's, which always does."""
    return len(rows) == 1 or not missed(gate, rows[-1], rows[0])
