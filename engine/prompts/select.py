"""The `select_prompt` step: race the pool on the development split, compare winner and baseline on the test split."""

from __future__ import annotations

from typing import Any

from engine.prompts import pool
from engine.prompts.contest import Contest, prefix
from engine.prompts.options import SelectPromptOptions
from engine.registry import OPTIMIZERS
from engine.workspace import Workspace


def run(workspace: Workspace, options: SelectPromptOptions) -> dict[str, Any]:
    """Chooses a prompt for the model as it is now; returns the step's summary."""
    contest = Contest.open(workspace, options)
    prompts = pool.build(contest.task, options, workspace.profile.seed, prefix(workspace))
    for prompt in prompts:
        contest.enter(prompt)
    contest.check_budget(len(prompts))
    winner = OPTIMIZERS.load(options.method).choose(contest.race)
    return contest.settle(winner, [0], workspace.artifact("prompts").name)
