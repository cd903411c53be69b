"""What a prompt step needs of its task and its budget: all of it is known without a model. No torch here, but for adjusters.

Every prompt that is chosen from meets a block of rows at least, or all there are: the best on a row or two is only lucky.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import classes, pool, written
from engine.prompts.budget import BLOCK
from engine.prompts.options import (
    AdjustPromptOptions,
    EmbedPromptOptions,
    JudgedOptions,
    PromptStepOptions,
    SelectPromptOptions,
    StartedPromptOptions,
)
from engine.prompts.template import Prompt
from engine.registry import ADJUSTERS

EMBEDDED = 4  # prompts of an embed_prompt step: plain, start, what the virtual tokens say, and these


def check_task(task: Task, options: JudgedOptions) -> None:
    """Raises UsageError for a calibration that the task has no use for, or rows that lack a class."""
    check_calibration(task, options)
    classes.check(task, options)


def check_method(task: Task, options: AdjustPromptOptions, where: str) -> None:
    """Raises UsageError for an adjuster that the task's prompts do not suit. Loads it, and with it what it computes with."""
    if not getattr(ADJUSTERS.load(options.method), "LEADS", False):
        return
    if task.chat not in ("off", "auto"):  # what a model's template makes of "auto" its run knows
        message = f"{options.method} changes an instruction that leads a plain text, and the task is asked as a chat"
        raise UsageError(message, where=f"{where}.method", hint='chat = "off", or another method')
    if task.generation:
        message = f"{options.method} follows the loss of choices, and the task has free answers"
        raise UsageError(message, where=f"{where}.method", hint="another method: see compress-tui list adjusters")


def check_calibration(task: Task, options: JudgedOptions) -> None:
    """Raises UsageError when the task's choices differ from row to row, or count by PMI: then there is no bias of a word to
    correct.
    """
    hint = 'calibration = "none"'
    if options.calibration != "none" and not task.labels:
        raise UsageError("calibration needs a task with fixed labels", where=f"task {task.name}", hint=hint)
    if options.calibration != "none" and task.scores == "pmi":
        raise UsageError("PMI corrects the words' bias by itself", where=f"task {task.name}.scores", hint=hint)


def begun(task: Task, options: PromptStepOptions, seed: int, where: str) -> list[Prompt]:
    """The prompts that a step begins with: words stand for what the model is to write, the plain prompt for what an earlier
    step is to choose. Raises UsageError or Unavailable for what cannot be begun with.
    """
    if isinstance(options, SelectPromptOptions):
        written.check(task, options, where)
        return pool.build(task, options, seed, where, pool.awaited(options))
    assert isinstance(options, StartedPromptOptions)
    start = pool.named_start(task, options, seed)
    if isinstance(options, EmbedPromptOptions):
        return [start] * EMBEDDED
    return [start] if start.same(pool.plain(task)) else [pool.plain(task), start]


def check_budget(task: Task, options: PromptStepOptions, lengths: Sequence[int], where: str) -> None:
    """Raises UsageError for a budget that is too small for prompts of so many tokens, or for rows too few to split."""
    dev = len(task.dev[: options.dev_rows])
    match options:
        case AdjustPromptOptions():
            check_search(options, lengths, dev, set_apart(task, dev, options.rows), where)
        case EmbedPromptOptions():
            check_blocks(options, lengths, dev - set_apart(task, dev, options.rows), where)
        case _:
            check_blocks(options, lengths, dev, where)


def check_blocks(options: PromptStepOptions, lengths: Sequence[int], rows: int, where: str) -> None:
    """Raises UsageError when the budget cannot show prompts of so many tokens a block of the rows each. What minutes can show
    is not known beforehand: the race says so itself.
    """
    budget, block = options.spending, min(BLOCK, rows)
    least = block * sum(budget.price(tokens) for tokens in lengths)
    if budget.amount < least:
        hint = f"raise the budget to at least {least} {budget.unit}, or have fewer or shorter prompts"
        message = f"a budget of {budget} for {len(lengths)} prompts, each of which is to meet {block} rows at least"
        raise UsageError(message, where=f"{where}.budget", hint=hint)


def check_search(options: AdjustPromptOptions, lengths: Sequence[int], dev: int, rows: int, where: str) -> None:
    """Raises UsageError when the budget cannot show `rows` of the `dev` development rows to the prompts to begin with, of so
    many tokens and the start the last, and then every finalist and the start a block of the others.
    """
    budget = options.spending
    first = rows * sum(budget.price(tokens) for tokens in lengths)
    least = first + reserve(options, lengths[-1], dev - rows)
    if budget.amount < least:
        spent = f"{first} {budget.unit}"
        message = f"a budget of {budget}, but the prompts to begin with take {spent} before the final"
        hint = f"raise the budget to at least {least}, or lower rows or finalists"
        raise UsageError(message, where=f"{where}.budget", hint=hint)


def reserve(options: AdjustPromptOptions, tokens: int, rows: int) -> int:
    """What the final needs: a block of the rows for every finalist and the start, of so many tokens."""
    return min(BLOCK, rows) * (options.finalists + 1) * options.spending.price(tokens)


def set_apart(task: Task, dev: int, most: int) -> int:
    """How many of the development rows may lead a search or check a training: `most`, at most half. The others choose.

    Raises UsageError when there is a single one.
    """
    if dev < 2:
        raise UsageError("one development row cannot both guide and choose", where=f"task {task.name}",
                         hint="more dev rows, or a larger dev_rows")  # fmt: skip
    return min(most, dev // 2)
