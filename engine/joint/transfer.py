"""The transfer matrix: the text and the soft prompt of every level on the model of every other one, without training.

A level's own prompts, and those of the level before, are in the grid already; a level's model is loaded for the rest only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine import events as ev
from engine import files, runs
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, SOFT, TEXT
from engine.joint.grid import Cell, GridRow, Meeting
from engine.joint.levels import Level, Levels
from engine.joint.tuned import Tuned, fitting
from engine.workspace import Workspace

CARRIED = {TEXT: CARRIED_TEXT, SOFT: CARRIED_SOFT}


@dataclass(frozen=True)
class Walked:
    """A level with what it found, its row of the grid and whether it meets the gate."""

    level: Level
    found: Tuned
    row: GridRow
    met: bool = True


def matrix(levels: Levels, walked: Sequence[Walked]) -> None:
    """Scores and tells every pair of levels."""
    for index, used in enumerate(walked):
        others = [w for w in walked if w not in walked[max(0, index - 1) : index + 1]]
        cells = elsewhere(levels, used.level, others)
        for kind, carried in CARRIED.items():
            known = {used.level.name: used.row.cells.get(kind)}
            known |= {walked[index - 1].level.name: used.row.cells.get(carried)} if index else {}
            known |= {other.level.name: cells.get(key(kind, other.level)) for other in others}
            for trained_at, cell in known.items():
                if cell:
                    tell(levels.workspace, kind, trained_at, used.level, cell)


def key(kind: str, trained_at: Level) -> str:
    """What a prompt of another level is called."""
    return f"{kind} of {trained_at.part}"


def elsewhere(levels: Levels, level: Level, others: Sequence[Walked]) -> dict[str, Cell]:
    """The other levels' prompts on this level's model, scored once; those that it has no place for are left out."""
    file = levels.place(level).checkpoint("transfer.json")
    record: dict[str, Any] | None = runs.read_json(file)
    if record is None:
        record = {name: asdict(cell) for name, cell in scored(levels, level, others).items()}
        files.write_text(file, json.dumps(record))
    return {name: Cell(**cell) for name, cell in record.items()}


def scored(levels: Levels, level: Level, others: Sequence[Walked]) -> dict[str, Cell]:
    prompts = {key(kind, o.level): p for o in others for kind in CARRIED if (p := o.found.of(kind))}
    if not prompts:
        return {}
    workspace = levels.at(level)
    fit = {name: prompt for name, prompt in prompts.items() if not prompt.soft or fitting(workspace, prompt)}
    return Meeting.of(workspace, levels.options, fit).tested(compared=False)


def tell(workspace: Workspace, kind: str, trained_at: str, used_at: Level, cell: Cell) -> None:
    workspace.emit(
        ev.Transferred(step=workspace.step, prompt=kind, trained_at=trained_at, used_at=used_at.name, **cell.figures())
    )
