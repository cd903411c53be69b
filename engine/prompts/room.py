"""What virtual tokens need before they can be trained: rows to learn from and to choose on, positions for them and the text,
and a model that can hold them in their form. All of it is known from the task and the options, without any training.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

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
    task, scorer, text = contest.task, contest.scorer, replace(prompt, soft=None)
    everything = [*rows, *task.dev, *task.test[: contest.options.test_rows], *task.confirm]

    def lengths(some: Sequence[Row]) -> list[int]:
        if task.generation:
            return [len(s.tokens) + task.generation.tokens for s in generator.sequences(scorer, text, some)]
        return [len(s.tokens) for s in scorer.sequences(text, some, task.most_choices)]

    bare = [context.bare(text, row) for row in everything]
    return max(statistics.median_high(lengths(everything)), *lengths(bare))


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
