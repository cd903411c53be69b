"""Whether a level is still good enough: decided on development rows, and told with the same figures on the test rows."""

from __future__ import annotations

from dataclasses import replace

from engine import events as ev
from engine import gates, statistics
from engine.events.joint import PLAIN
from engine.joint.grid import GridRow
from engine.joint.levels import Level
from engine.joint.options import JointGate
from engine.workspace import Workspace

DROP = "accuracy_drop"


def tell(workspace: Workspace, gate: JointGate, level: Level, row: GridRow, dense: GridRow) -> bool:
    """Tells every bound of the gate, if any; returns whether the level meets them all."""
    found = [
        replace(check, step=workspace.step, level=level.name)
        for check in checks(gate, row, dense, workspace.profile.seed)
    ]
    for check in found:
        workspace.emit(check)
    missed = [check for check in found if not check.passed]
    if missed:
        why = "; ".join(
            f"{gates.name(check)} is {gates.value(check)}, {gates.bound(check)} is asked" for check in missed
        )
        workspace.log(f"the walk ends at {level.name}: {why}")
    return not missed


def checks(gate: JointGate, row: GridRow, dense: GridRow, seed: int) -> list[ev.GateChecked]:
    """Every bound of the gate on a level's chosen prompt, against the plain prompt of the level and of the dense model.

    `recovered` is met by the share (see `statistics.regained`) that reaches it. Where the share is undefined, the gap's 95%
    interval reaching zero, nothing is known to be lost: then the level misses it only by a paired drop against the dense model
    whose whole 95% interval is above zero. `accuracy_drop` is met by a drop that does not exceed it.
    """
    best, base, top = row.cells[row.chosen], row.cells[PLAIN], dense.cells[PLAIN]
    dev, test = (statistics.compare(*pair, seed) for pair in ((top.dev_right, best.dev_right), (top.right, best.right)))
    out = []
    if gate.recovered is not None:
        share = statistics.regained(best.dev_right, base.dev_right, top.dev_right, seed)
        if share.value is None:
            out.append(_drop("recovered", 0.0, dev.low <= 0, dev, test, instead=DROP))
        else:
            tested = statistics.regained(best.right, base.right, top.right, seed)
            out.append(_share(gate.recovered, share.value, share, tested))
    if gate.accuracy_drop is not None:
        out.append(_drop(DROP, gate.accuracy_drop, dev.difference <= gate.accuracy_drop, dev, test))
    return out


def _share(bound: float, value: float, dev: statistics.Regained, test: statistics.Regained) -> ev.GateChecked:
    return ev.GateChecked(
        name="recovered", bound=bound, value=value, passed=value >= bound, least=True, n=dev.gap.n, low=dev.low,
        high=dev.high, test=test.value, test_low=test.low, test_high=test.high, test_n=test.gap.n,
    )  # fmt: skip


def _drop(
    name: str, bound: float, passed: bool, dev: statistics.Paired, test: statistics.Paired, instead: str = ""
) -> ev.GateChecked:
    return ev.GateChecked(
        name=name, bound=bound, value=dev.difference, passed=passed, instead=instead, n=dev.n, low=dev.low,
        high=dev.high, test=test.difference, test_low=test.low, test_high=test.high, test_n=test.n,
    )  # fmt: skip
