"""The `joint` step: walks rising levels of compression, each with its prompts, and ends with the highest that is good enough.

Every choice is made on development rows, the level included; every kind of prompt at every level meets the test split once.
What a level came to is kept: a walk that was stopped goes on behind it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine import files, runs
from engine.errors import EngineError
from engine.events.joint import LORA, PLAIN
from engine.joint import gate, grid, lora, recovered, transfer, tuned
from engine.joint.grid import GridRow, Meeting
from engine.joint.levels import Level, Levels, levels_of
from engine.joint.options import JointOptions
from engine.joint.transfer import Walked
from engine.joint.tuned import Tuned
from engine.workspace import Workspace

ENDED = "ended.json"


def run(workspace: Workspace, options: JointOptions) -> dict[str, Any]:
    """Leaves the model of the highest level that meets the gate, with its prompt; returns the step's summary."""
    workspace.calibration_inputs()  # read once, for all levels
    levels = Levels(workspace, options)
    walked = walk(levels)
    transfer.matrix(levels, walked)
    last = next(w for w in reversed(walked) if w.met)
    if len(walked) > 1 and last is walked[0]:
        workspace.log("no level meets the gate: the model stays as the step found it", "warning")
    summary = settle(levels, walked, last)
    files.write_text(workspace.checkpoint(ENDED), json.dumps({"sparsity": last.level.sparsity}))
    workspace.subject = levels.at(last.level).subject
    return summary


def restore(workspace: Workspace, options: JointOptions) -> None:
    """Puts the model of a finished step back. Raises EngineError when its checkpoint is gone."""
    file = workspace.checkpoint(ENDED)
    record = runs.read_json(file)
    if record is None:
        raise EngineError("the checkpoint of the walk's end is gone", where=str(file), hint="start a new run")
    workspace.subject = Levels(workspace, options).at(Level(record["sparsity"])).subject


def walk(levels: Levels) -> list[Walked]:
    """The levels in order, up to the first that misses the gate."""
    workspace, options, out = levels.workspace, levels.options, list[Walked]()
    for level in levels_of(options):
        before = out[-1].found if out else None
        found, row = visit(levels, level, before)
        grid.tell(workspace, options, level, row)
        met = True
        if out:
            recovered.tell(workspace, level, row, out[0].row)
            met = gate.tell(workspace, options.gate, level, row, out[0].row)
        out.append(Walked(level, found, row, met))
        if not met:
            break
    return out


def visit(levels: Levels, level: Level, before: Tuned | None) -> tuple[Tuned, GridRow]:
    """What a level finds and how it does; as it was kept, where an earlier process was there."""
    place = levels.place(level)
    known, found = grid.read(place), tuned.read(place)
    if known and found:
        return found, known
    workspace, options = levels.at(level), levels.options
    found = tuned.tuned(workspace, options, before)
    row = grid.row_at(workspace, options, found, before)
    if options.lora:
        row.cells[LORA] = lora.cell_at(workspace, options, found)
    grid.write(workspace, row)
    return found, row


def settle(levels: Levels, walked: Sequence[Walked], last: Walked) -> dict[str, Any]:
    """The level's prompts once more, from the cache: the chosen one becomes an artifact."""
    workspace, options = levels.at(last.level), levels.options
    number = walked.index(last)
    before = walked[number - 1].found if number else None
    meeting = Meeting.of(workspace, options, grid.prompts_at(workspace, options, last.found, before))
    plain, chosen = (meeting.indices[kind] for kind in (PLAIN, last.row.chosen))
    others = [index for index in dict.fromkeys(meeting.indices.values()) if index not in (plain, chosen)]
    summary = meeting.contest.settle(chosen, [*others, plain], workspace.artifact("joint-prompt").name)
    del summary["scored"], summary["candidates"]
    return {"level": last.level.name, "sparsity": last.level.sparsity, "levels": len(walked),
            "kind": last.row.chosen} | summary  # fmt: skip
