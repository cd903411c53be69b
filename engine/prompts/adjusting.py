"""What an adjuster is told and how it asks: it yields prompts, and gets back how each did on the same development rows.

An adjuster is a file in `adjusters/` with

    def adjust(setting: Setting) -> Adjuster
    OBJECTIVE = "length"    # only where the winner is to be the shortest that loses nothing, and not the most accurate
    LEADS = True            # only where the instruction must lead a plain text, and choices follow it
    SHOWS = True            # only where prompts come to show training rows, `max_demonstrations` at most

It never scores development rows, counts, writes or stops by itself: the `adjust_prompt` step owns budget, cache, events and
resume (the cache makes a repeated search cheap, and with the seed it is the same search). Training rows that it asks about, for
gradients or mistakes, are beside the budget. An adjuster that has no more ideas returns.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts.options import AdjustPromptOptions
from engine.prompts.template import Prompt
from engine.registry import ADJUSTERS

if TYPE_CHECKING:  # a profile is checked without torch
    from engine.prompts.judging import Standing
    from engine.prompts.scorer import Scorer
    from engine.prompts.writer import Writer
    from engine.subject import Subject

Adjuster: TypeAlias = "Generator[Sequence[Prompt], Sequence[Standing], None]"


@dataclass(frozen=True)
class Setting:
    """Where to begin and what may be used: the task's training rows for demonstrations, mistakes and gradients, the development
    `rows` that every prompt meets, the model itself, how it scores, and what it writes when asked. All chance comes from
    `generator`; `meaningless` are the inputs that the step's calibration asks about, if any.
    """

    start: Prompt
    task: Task
    rows: Sequence[Row]
    options: AdjustPromptOptions
    subject: Subject
    scorer: Scorer
    writer: Writer
    generator: random.Random
    meaningless: Sequence[Row] = ()

    def instruction(self) -> str:
        """What to begin with: the start's instruction, else the task's description."""
        return self.start.instruction or self.task.description

    def with_instruction(self, text: str, origin: str) -> Prompt:
        """The start with another instruction."""
        return replace(self.start, instruction=text, origin=origin)

    def tokens(self, prompt: Prompt) -> int:
        """How long the prompt is, its fields unfilled."""
        tokenizer: Any = self.subject.tokenizer
        return len(tokenizer(prompt.text()).input_ids)


def shows(method: str) -> bool:
    """Whether the adjuster's prompts come to show training rows."""
    return bool(getattr(ADJUSTERS.load(method), "SHOWS", False))
