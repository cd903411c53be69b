"""The levels of a walk: each one the model as the step finds it, pruned once to the level's sparsity, kept for later.

A level's model is a copy, so that no level is pruned from another one's weights; one copy is in memory at a time.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace

from engine import files, runs
from engine.joint.options import JointOptions
from engine.pruning import step as pruning
from engine.workspace import Workspace

DENSE = "dense"


@dataclass(frozen=True)
class Level:
    """`sparsity` 0 is the model as the step finds it."""

    sparsity: float

    @property
    def name(self) -> str:
        """In figures and tables."""
        return f"{100 * self.sparsity:g}%" if self.sparsity else DENSE

    @property
    def part(self) -> str:
        """In the names of files and prompts."""
        return f"s{100 * self.sparsity:g}"


def levels_of(options: JointOptions) -> list[Level]:
    """All of them, the unpruned one first."""
    return [Level(0.0), *map(Level, options.levels)]


@dataclass
class Levels:
    """Gives each level a workspace of its own, its model in it."""

    workspace: Workspace
    options: JointOptions
    _last: tuple[Level, Workspace] | None = field(default=None, init=False)

    def at(self, level: Level) -> Workspace:
        """The workspace at a level: pruned now, or as it was pruned before."""
        if self._last is None or self._last[0] != level:
            self._last = None  # gone before the next one is made
            self._last = level, self._made(level)
        return self._last[1]

    def place(self, level: Level) -> Workspace:
        """The workspace at a level without its model, for its files."""
        return self.workspace.within(level.part)

    def _made(self, level: Level) -> Workspace:
        workspace, subject = self.place(level), self.workspace.subject
        if not level.sparsity:
            return workspace
        workspace.subject = replace(subject, module=copy.deepcopy(subject.module))
        if workspace.stage == DENSE:
            workspace.dense = subject
        how, done = self.options.pruning(level.sparsity), workspace.checkpoint("pruned.json")
        if runs.read_json(done) is not None:
            pruning.restore(workspace, how)
        else:
            self.workspace.log(f"level {level.name}: pruning")
            files.write_text(done, json.dumps(pruning.run(workspace, how)))
        workspace.stage = f"{level.name} sparse"
        return workspace
