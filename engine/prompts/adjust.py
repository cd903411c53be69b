"""The `adjust_prompt` step: an adjuster proposes, development rows judge, the best meet other rows and then the test split.

The rows that led the search are not those that the choice is made on: of many candidates the best on the same few rows is
partly lucky, and some adjusters look at these rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from typing import Any

from engine.data.rows import Row
from engine.prompts import needs, pool, shortest
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.budget import Budget
from engine.prompts.contest import Contest, length, prefix
from engine.prompts.finals import latest_winner
from engine.prompts.judging import Standing
from engine.prompts.optimizers import halving
from engine.prompts.options import AdjustPromptOptions, StartedPromptOptions
from engine.prompts.room import Room
from engine.prompts.template import Prompt
from engine.registry import ADJUSTERS
from engine.workspace import Workspace

CROWDED = 16
"""how often in a row an adjuster may propose nothing that has room in the model's context"""
Pick = Callable[[Sequence[int]], int]


def run(workspace: Workspace, options: AdjustPromptOptions) -> dict[str, Any]:
    """Adjusts a prompt for the model as it is now; returns the step's summary."""
    contest = Contest.open(workspace, options)
    winner, baselines, pick = adjusted(contest, options, starting(contest, options))
    return contest.settle(winner, baselines, workspace.artifact("adjusted-prompts").name, pick)


def adjusted(contest: Contest, options: AdjustPromptOptions, start: Prompt) -> tuple[int, list[int], Pick]:
    """The best of what the adjuster makes of the start, what it is to beat (the start last), and how to choose among them."""
    workspace, scorer = contest.workspace, contest.scorer
    needs.check_method(contest.task, options, f"step.{workspace.step}")
    plain = pool.plain(contest.task, prefix(workspace))
    baselines = list(dict.fromkeys([contest.enter(plain), contest.enter(start)]))
    dev = len(contest.race.rows)
    rows = needs.set_apart(contest.task, dev, options.rows)
    needs.check_search(options, [contest.race.tokens[i] for i in baselines], dev, rows, f"step.{workspace.step}")
    seed = workspace.profile.seed
    generator = random.Random(f"adjust {seed} {workspace.step}")
    met = contest.race.rows[:rows]
    asking = replace(scorer, cut={})  # training rows that do not fit are not the race's
    setting = Setting(start, contest.task, met, options, workspace.subject, asking, contest.writer(), generator,
                      contest.meaningless)  # fmt: skip
    adjuster = ADJUSTERS.load(options.method)
    search(contest, options, adjuster.adjust(setting), baselines, rows)
    first = baselines[-1]
    race = contest.race
    pick: Pick = partial(race.best, first)
    if goal(options) == "length":
        pick = last
    return final(contest, options, first, rows), baselines, pick


def last(indices: Sequence[int]) -> int:
    """The winner, which was tried together with all others."""
    return indices[-1]


def goal(options: AdjustPromptOptions) -> str:
    """ "accuracy" or "length": as the options say, else as the adjuster's OBJECTIVE does."""
    if options.objective != "auto":
        return options.objective
    return str(getattr(ADJUSTERS.load(options.method), "OBJECTIVE", "accuracy"))


def starting(contest: Contest, options: StartedPromptOptions) -> Prompt:
    """The prompt to begin with: what the options name, else what an earlier step chose, else the plain one.

    Raises UsageError when more demonstrations are asked for than there are rows.
    """
    workspace, task = contest.workspace, contest.task
    chosen = None if options.names_start else latest_winner(workspace, task.name)
    start = chosen or pool.named_start(task, options, workspace.profile.seed)
    return replace(start, name=prefix(workspace) + pool.START)


def limit(options: AdjustPromptOptions, tokens: int, rows: int) -> float:
    """What the search may come to, where the start has so many tokens and the final so many rows."""
    budget = options.spending
    share = budget.amount * (1 - options.final)
    return min(
        share if budget.unit == "minutes" else round(share), budget.amount - needs.reserve(options, tokens, rows)
    )


def search(contest: Contest, options: AdjustPromptOptions, adjuster: Adjuster, baselines: list[int], rows: int) -> None:
    """Lets the adjuster propose until it ends or the search has spent what it may; a prompt without room in the model's context
    is told as worse than the start. Warns when nothing new was scored.
    """
    race, number, closed, idle, room = contest.race, 0, False, 0, Room(contest)
    tokens = race.tokens[baselines[-1]]
    most = limit(options, tokens, len(race.rows) - rows)
    *_, start = meet(contest, baselines, rows, number)
    ask = next(adjuster, None)
    while ask is not None:
        number += 1
        race.charge()
        fits = [room.fits(prompt) for prompt in ask]
        fitting = list(compress(ask, fits))
        idle = 0 if fitting else idle + 1
        met = afforded(contest, fitting, rows, most, number)
        if (closed := len(met) < len(fitting)) or idle == CROWDED:
            adjuster.close()
            break
        left = iter(met)
        try:
            ask = adjuster.send([next(left) if fit else start.worse() for fit in fits])
        except StopIteration:
            break
    if len(race.prompts) == len(baselines):
        cost = Budget(race.spent + rows * race.price(tokens), race.unit)
        need = f"{cost}, and the search may have {most:g}"
        none = f"{options.method} proposed none" + (" with room in the model's context" if idle else "")
        reason = f"the first needs {need}: raise the budget" if closed else none
        contest.workspace.log(f"the search scored no new prompt: {reason}", "warning")


def afforded(contest: Contest, ask: Sequence[Prompt], rows: int, most: float, number: int) -> list[Standing]:
    """The beginning of what was asked on the first `rows` rows, as far as the search may spend; a prompt that is in already
    costs nothing. Each enters when the ones before it have met their rows: what minutes are left is not known earlier.
    """
    race, out = contest.race, list[Standing]()
    foresee(contest, ask, rows, most)
    for prompt in ask:
        known = contest.find(prompt)
        cost = rows * race.price(length(contest.workspace, prompt)) if known is None else 0
        if cost and cost > most - race.spent:
            break
        index = contest.enter(named(contest, prompt))
        found = meet(contest, [index], rows, number)
        if race.met(index) < rows:  # the minutes are over
            break
        out += found
    return out


def foresee(contest: Contest, ask: Sequence[Prompt], rows: int, most: float) -> None:
    """Tells the race's `ahead` which new prompts will be afforded; of minutes nobody knows."""
    race = contest.race
    if not race.ahead or race.clock:
        return
    several, left = list[tuple[Prompt, Sequence[Row]]](), most - race.spent
    for prompt in ask:
        cost = 0 if contest.find(prompt) is not None else rows * race.price(length(contest.workspace, prompt))
        if cost > left:
            break
        several += [(prompt, race.rows[:rows])] if cost else []
        left -= cost
    race.ahead(several)


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


def final(contest: Contest, options: AdjustPromptOptions, start: int, rows: int) -> int:
    """The winner among the best so far, or the shortest that keep up with the start, by what is left of the budget.

    The search's `rows` say who is in; the rows behind them say who wins. Whom the end of the minutes left with fewer rows than
    the start is out.
    """
    race = contest.race
    entered = [index for index in range(len(race.prompts)) if race.met(index) >= race.met(start)]
    if goal(options) == "length":
        winner = shortest.choose(race, entered, start, options.finalists, rows, options.max_loss)
        if winner == start and any(race.tokens[index] < race.tokens[start] for index in entered):
            count, more = race.standing(start).rows, "more development rows or a larger max_loss may help"
            lost = f"no shorter prompt is sure to lose at most {options.max_loss:g} by {count} rows"
            contest.workspace.log(f"{lost}: {more}")
        return winner
    finalists = race.ranked(entered)[: options.finalists]
    race.first = rows
    return halving.halve(race, finalists)
