"""One level's row of the grid: every kind of prompt meets the same development rows, where the best is chosen and calibration
fitted, and then, once, the same test rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import events as ev
from engine import figures, files, runs, statistics
from engine.errors import UsageError
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, PLAIN, SOFT, TEXT
from engine.joint.levels import Level
from engine.joint.options import JointOptions
from engine.joint.tuned import Tuned, fitting, guiding
from engine.prompts import pool
from engine.prompts.contest import Contest, prefix
from engine.prompts.finals import Finals
from engine.prompts.judging import Standing
from engine.prompts.template import Prompt
from engine.workspace import Workspace


@dataclass(frozen=True)
class Cell:
    """Right or wrong on every development row and on every test row, as 1 and 0."""

    candidate: str
    dev: list[int]
    test: list[int]
    margin: float

    @property
    def right(self) -> NDArray[np.bool_]:
        """On the test rows."""
        return np.array(self.test, dtype=bool)

    def figures(self) -> dict[str, Any]:
        """The accuracy on the test rows as events tell it."""
        right, n = sum(self.test), len(self.test)
        low, high = statistics.wilson(right, n)
        return {"n": n, "accuracy": right / n, "low": low, "high": high}

    @property
    def dev_right(self) -> NDArray[np.bool_]:
        """On the development rows."""
        return np.array(self.dev, dtype=bool)


@dataclass(frozen=True)
class GridRow:
    """A level's cells by kind of prompt; `chosen` is the best of the texts and soft prompts on development rows."""

    cells: dict[str, Cell]
    chosen: str

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GridRow:
        return cls({kind: Cell(**cell) for kind, cell in record["cells"].items()}, record["chosen"])


@dataclass
class Meeting:
    """The prompts of a level, by kind, in one race over the development rows that choose; equal ones run once."""

    contest: Contest
    options: JointOptions
    indices: dict[str, int]

    @classmethod
    def of(cls, workspace: Workspace, options: JointOptions, prompts: Mapping[str, Prompt]) -> Meeting:
        contest = Contest.open(workspace, options.selecting())
        led = guiding(contest, options)
        contest.race.rows = contest.race.rows[led:]
        named = {kind: prefix(workspace) + kind.replace(" ", "-") for kind in prompts}
        indices = {kind: contest.enter(replace(p, name=named[kind])) for kind, p in prompts.items()}
        race = contest.race
        race.budget, race.unit, race.clock = len(race.prompts) * len(race.rows), "examples", None
        for index in range(len(race.prompts)):
            race.advance(index, len(race.rows))
            race.tell(index, 1, True)
        return cls(contest, options, indices)

    @property
    def chosen(self) -> str:
        """The kind of the best one."""
        best = self.contest.race.ranked(sorted(set(self.indices.values())))[0]
        return next(kind for kind, index in self.indices.items() if index == best)

    def tested(self, compared: bool = True) -> dict[str, Cell]:
        """Every one on the test rows; the best compared with the others, or none with any."""
        contest, race = self.contest, self.contest.race
        best = self.indices[self.chosen]
        order = sorted(set(self.indices.values()), key=lambda index: index == best)
        figures: dict[int, Standing] = {}
        for together in [order] if compared else [[index] for index in order]:
            finals = Finals(contest.workspace, contest.options, contest.task, race, together)
            figures |= zip(together, finals.compare(contest.scorer, contest.workspace.stage), strict=True)
        return {kind: self._cell(index, figures[index]) for kind, index in self.indices.items()}

    def _cell(self, index: int, found: Standing) -> Cell:
        race = self.contest.race
        dev, test = (s.measured.right.astype(int).tolist() for s in (race.standing(index), found))
        return Cell(race.prompts[index].name, dev, test, found.margin)


def check(workspace: Workspace, options: JointOptions) -> None:
    """Raises UsageError for a task by whose metric no row is right or wrong: of right answers a share is recovered."""
    metric = workspace.task(options.task).metric
    if not figures.binary(metric):
        raise UsageError(f"levels are compared by right and wrong answers, and {metric} knows none",
                         where=f"step.{workspace.step}.task", hint="a task judged by accuracy or exact_match")  # fmt: skip


def prompts_at(workspace: Workspace, options: JointOptions, found: Tuned, before: Tuned | None) -> dict[str, Prompt]:
    """Every kind of prompt that the level has, those without virtual tokens first."""
    out = {PLAIN: pool.plain(workspace.task(options.task))}
    if before:
        out[CARRIED_TEXT] = before.text
    out[TEXT] = found.text
    if before and before.soft and fitting(workspace, before.soft):
        out[CARRIED_SOFT] = before.soft
    return out | ({SOFT: found.soft} if found.soft else {})


def row_at(workspace: Workspace, options: JointOptions, found: Tuned, before: Tuned | None) -> GridRow:
    """The level's row, but for the cells of other weights than the level's own."""
    meeting = Meeting.of(workspace, options, prompts_at(workspace, options, found, before))
    return GridRow(meeting.tested(), meeting.chosen)


def write(workspace: Workspace, row: GridRow) -> None:
    files.write_text(workspace.checkpoint("grid.json"), json.dumps(asdict(row)))


def read(workspace: Workspace) -> GridRow | None:
    """What `write` kept."""
    record = runs.read_json(workspace.checkpoint("grid.json"))
    return None if record is None else GridRow.from_json(record)


def tell(workspace: Workspace, options: JointOptions, level: Level, row: GridRow) -> None:
    for kind, cell in row.cells.items():
        workspace.emit(
            ev.GridScored(
                step=workspace.step, level=level.name, sparsity=level.sparsity, prompt=kind, candidate=cell.candidate,
                calibration=options.calibration, margin=cell.margin, chosen=kind == row.chosen, **cell.figures(),
            )
        )  # fmt: skip
