"""Whether prompts have room in the model's context, and what virtual tokens need before they can be trained: rows to learn from
and to choose on, positions for them and the text, and a model that can hold them in their form. All of it is known from the
task and the options, without any training.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import context, generator, needs, pool
from engine.prompts.contest import Contest, length
from engine.prompts.forward import may_be_shared, positions
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.soft import beginning
from engine.prompts.template import Prompt

SEAMS = 8
"""tokens by which a text's length may be off where it is taken as the sum of its parts'"""


def check(contest: Contest, options: EmbedPromptOptions, start: Prompt) -> list[Row]:
    """The rows to train on. Raises UsageError for the first thing that the training ahead of `start` lacks."""
    # one more where the start has virtual tokens: the text without any
    contest.check_budget([length(contest.workspace, start)] * (needs.EMBEDDED + (start.soft is not None)))
    rows = training(contest.task, options, start, contest.workspace.profile.seed)
    check_positions(contest, options, behind(options, start), rows)
    check_form(contest, options)
    return rows


def behind(options: EmbedPromptOptions, start: Prompt) -> Prompt:
    """The text that stands behind the virtual tokens."""
    text = replace(start, soft=None)
    return text if options.behind == "prompt" else replace(text, instruction="", demonstrations=())


def training(task: Task, options: EmbedPromptOptions, start: Prompt, seed: int) -> list[Row]:
    """Rows of the training split that the prompt does not show, as many as asked for, drawn by seed."""
    rows = [row for row in task.train if row not in start.demonstrations]
    if not rows:
        raise UsageError("there are no rows to train on", where=f"task {task.name}", hint="name a file for train")
    if options.train_rows is None or options.train_rows >= len(rows):
        return rows
    return list(pool.draw(rows, options.train_rows, bool(task.labels), random.Random(f"{seed} trained")))


def needed(contest: Contest, prompt: Prompt, rows: Sequence[Row]) -> int:
    """Tokens that the prompt's text and an answer need with these rows and those that it will be judged on: for half of them
    whole, and for all of them cut as far as rows can be.
    """
    everything = [*rows, *judged(contest)]
    return max(statistics.median_high(lengths(contest, prompt, everything)), barest(contest, prompt, everything))


def judged(contest: Contest) -> list[Row]:
    """The rows that prompts meet in the step."""
    task, options = contest.task, contest.options
    return [*task.dev[: options.dev_rows], *task.test[: options.test_rows], *task.confirm]


def lengths(contest: Contest, prompt: Prompt, rows: Sequence[Row]) -> list[int]:
    """Tokens of the prompt's text with each row and every answer to it."""
    task, scorer, text = contest.task, contest.scorer, replace(prompt, soft=None)
    if task.generation:
        return [len(s.tokens) + task.generation.tokens for s in generator.sequences(scorer, text, rows)]
    return [len(s.tokens) for s in scorer.sequences(text, rows, task.most_choices)]


def barest(contest: Contest, prompt: Prompt, rows: Sequence[Row]) -> int:
    """The most tokens that it needs with one of the rows, each cut as far as rows can be."""
    return max(lengths(contest, prompt, [context.bare(prompt, row) for row in rows]))


@dataclass
class Room:
    """Which prompts have room with every row that they are to meet: that others of a template need as much more than their own
    tokens as its first one is taken for granted, but near the limit.
    """

    contest: Contest
    more: dict[str, int] = field(default_factory=dict)

    def needs(self, prompt: Prompt) -> int:
        """Tokens with the row that takes most; more than there are positions where one would have no room."""
        own, limit = length(self.contest.workspace, prompt), positions(self.contest.workspace.subject)
        if limit is None:
            return own
        if prompt.template in self.more and abs(own + self.more[prompt.template] - limit) > SEAMS:
            return own + self.more[prompt.template]
        most = barest(self.contest, prompt, judged(self.contest))
        self.more.setdefault(prompt.template, most - own)
        return most

    def fits(self, prompt: Prompt) -> bool:
        limit = positions(self.contest.workspace.subject)
        return limit is None or self.needs(prompt) <= limit


def check_positions(contest: Contest, options: EmbedPromptOptions, text: Prompt, rows: Sequence[Row]) -> None:
    """Raises UsageError for virtual tokens that the context has no room for."""
    limit, tokens = positions(contest.workspace.subject), needed(contest, text, rows)
    if limit is None or tokens + options.tokens <= limit:
        return
    message = f"{options.tokens} virtual tokens ahead of {tokens} do not fit in the model's {limit} positions"
    hint = "a shorter prompt" if tokens >= limit else f"tokens = {limit - tokens}, or a shorter prompt"
    raise UsageError(message, where=f"step.{contest.workspace.step}.tokens", hint=hint)


def check_form(contest: Contest, options: EmbedPromptOptions) -> None:
    """Raises UsageError where the model's keys and values cannot be a prefix of so many tokens, or no text goes on from any."""
    subject, where = contest.workspace.subject, f"step.{contest.workspace.step}.form"
    if options.form == "prefix":
        try:
            beginning(options.form, subject, [0] * options.tokens)
        except UsageError as error:
            raise UsageError(error.message, where=where, hint=error.hint) from error
    with torch.no_grad():
        shared = may_be_shared(beginning("soft", subject, [0]).past(subject))
    if not shared:
        message = "virtual tokens are keys and values that a text goes on from, and this model keeps a state instead"
        raise UsageError(message, where=where, hint="select_prompt and adjust_prompt work")
