"""The `adjust_prompt` step: an adjuster proposes, development rows judge, the best meet more rows and then the test split."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from engine.errors import UsageError
from engine.prompts import pool, shortest
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.contest import Contest, prefix
from engine.prompts.finals import latest_winner
from engine.prompts.optimizers import halving
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions
from engine.prompts.race import Standing
from engine.prompts.template import Prompt
from engine.prompts.writer import Writer
from engine.registry import ADJUSTERS
from engine.workspace import Workspace

START = "start"


def run(workspace: Workspace, options: AdjustPromptOptions) -> dict[str, Any]:
    """Adjusts a prompt for the model as it is now; returns the step's summary."""
    contest = Contest.open(workspace, options)
    names = prefix(workspace)
    plain = Prompt(names + pool.BASELINE, contest.task.template, origin="the task's template")
    start = replace(starting(workspace, contest, options), name=names + START)
    baselines = list(dict.fromkeys([contest.enter(plain), contest.enter(start)]))
    contest.check_budget(len(baselines) + options.finalists)
    rows = contest.race.rows[: options.rows]
    seed = workspace.profile.seed
    writer = Writer(workspace.subject, contest.cache, seed, workspace.check_stop)
    generator = random.Random(f"adjust {seed} {workspace.step}")
    setting = Setting(start, contest.task, rows, options, workspace.subject, writer, generator)
    adjuster = ADJUSTERS.load(options.method)
    search(contest, options, adjuster.adjust(setting), baselines)
    folder, first = workspace.artifact("adjusted-prompts").name, baselines[-1]
    winner = final(contest, options, first)
    if goal(options) == "length":
        return contest.settle(winner, baselines, folder, partial(shortest.pick, contest.race, first))
    return contest.settle(winner, baselines, folder)


def goal(options: AdjustPromptOptions) -> str:
    """ "accuracy" or "length": as the options say, else as the adjuster's OBJECTIVE does."""
    if options.objective != "auto":
        return options.objective
    return str(getattr(ADJUSTERS.load(options.method), "OBJECTIVE", "accuracy"))


def starting(workspace: Workspace, contest: Contest, options: AdjustPromptOptions | EmbedPromptOptions) -> Prompt:
    """The prompt to begin with. Raises UsageError when more demonstrations are asked for than there are rows."""
    task = contest.task
    if options.instruction is None and not options.demonstrations:
        return latest_winner(workspace, task.name) or Prompt(START, task.template, origin="the task's template")
    shown = pool.draw(task, options.demonstrations, random.Random(f"{workspace.profile.seed} start"))
    return Prompt(START, task.template, options.instruction or "", shown, "the step's options")


def search(contest: Contest, options: AdjustPromptOptions, adjuster: Adjuster, baselines: list[int]) -> None:
    """Lets the adjuster propose until it ends or the next proposal would cost more than the search may."""
    race, rows, number = contest.race, min(options.rows, len(contest.race.rows)), 0
    limit = round(options.budget * (1 - options.final))
    meet(contest, baselines, rows, number)
    ask, answers = next(adjuster, None), None
    while ask is not None:
        number += 1
        fresh = sum(rows - (race.met(i) if (i := contest.find(p)) is not None else 0) for p in ask)
        if race.spent + fresh > limit:
            adjuster.close()
            return
        indices = [contest.enter(named(contest, prompt)) for prompt in ask]
        answers = meet(contest, indices, rows, number)
        try:
            ask = adjuster.send(answers)
        except StopIteration:
            return


def named(contest: Contest, prompt: Prompt) -> Prompt:
    """The prompt under the next free name."""
    names = prefix(contest.workspace)
    return replace(prompt, name=f"{names}a{len(contest.race.prompts):02d}")


def meet(contest: Contest, indices: Sequence[int], rows: int, number: int) -> list[Standing]:
    """Every one of the candidates on the first `rows` development rows; the figures are told once each."""
    race, out = contest.race, []
    for index in indices:
        news = race.met(index) < rows
        out.append(race.advance(index, rows))
        if news:
            race.tell(index, number, True)
    return out


def final(contest: Contest, options: AdjustPromptOptions, start: int) -> int:
    """The winner among the best so far, or the shortest that keep up with the start, by what is left of the budget.

    Of many candidates on the same few rows the best is partly lucky: only more rows tell.
    """
    race = contest.race
    met = [i for i in range(len(race.prompts)) if race.met(i)]
    if not met:
        raise UsageError("the budget ended before a prompt was scored", where=f"step.{contest.workspace.step}.budget")
    if goal(options) == "length":
        return shortest.choose(race, met, start, options.finalists)
    return halving.halve(race, race.ranked(met)[: options.finalists])
