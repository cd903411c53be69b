"""The `select_prompt` step: race the pool on the development split, compare winner and baseline on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from engine.prompts import pool, written
from engine.prompts.contest import Contest, length, prefix
from engine.prompts.options import ALONE, SelectPromptOptions
from engine.prompts.pool import Instruction
from engine.prompts.template import Prompt
from engine.registry import OPTIMIZERS
from engine.workspace import Workspace


def run(workspace: Workspace, options: SelectPromptOptions) -> dict[str, Any]:
    """Chooses a prompt for the model as it is now; returns the step's summary."""
    contest = Contest.open(workspace, options)
    prompts = candidates(contest, options)
    if len(prompts) == 1:  # all but this is known beforehand, and what the model was compressed for is not lost for it
        workspace.log(f"{ALONE}, the model wrote nothing that can serve", "warning")
    contest.check_budget([length(workspace, prompt) for prompt in prompts])
    return contest.settle(raced(contest, options, prompts), [0], workspace.artifact("prompts").name)


def choose(contest: Contest, options: SelectPromptOptions, more: Sequence[Prompt] = ()) -> int:
    """The one that is chosen of the pool and some `more`; the plain prompt is the first to enter the race."""
    return raced(contest, options, [*candidates(contest, options), *more])


def raced(contest: Contest, options: SelectPromptOptions, prompts: Sequence[Prompt]) -> int:
    """The index of the prompt that wins the race; of the plain one, the first, where the winner is hardly ahead of it."""
    for prompt in prompts:
        contest.enter(prompt)
    race, plain = contest.race, 0
    winner: int = OPTIMIZERS.load(options.method).choose(race)
    return contest.decide(winner, [plain], partial(race.best, plain))


def candidates(contest: Contest, options: SelectPromptOptions) -> list[Prompt]:
    """The pool; what of it says the same twice is left out and counted."""
    task, names, seed = contest.task, prefix(contest.workspace), contest.workspace.profile.seed
    every = pool.combinations(task, options, seed, f"step.{contest.workspace.step}", instructions(contest, options))
    prompts = pool.distinct(every, pool.plain(task, names), names)
    repeated = len(every) + 1 - len(prompts)
    if repeated:
        contest.workspace.log(f"{repeated} of the pool's {len(every) + 1} prompts repeat others and are left out")
    return prompts


def instructions(contest: Contest, options: SelectPromptOptions) -> list[Instruction]:
    """Those that the model writes where the options ask for any."""
    written.check(contest.task, options, f"step.{contest.workspace.step}")
    if not options.rewrites and not options.induction:
        return []
    found = written.write(contest.task, options, contest.writer(), contest.workspace.profile.seed)
    contest.workspace.log(str(found))
    return found.instructions
