"""Instructions that the local model writes for a pool: the given ones in other words, and what it induces from labelled
examples. An answer that cannot stand before a task's rows is dropped, and why is counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import pool, requests
from engine.prompts.options import SelectPromptOptions
from engine.prompts.pool import Instruction
from engine.prompts.requests import Answer

if TYPE_CHECKING:  # a profile is checked without torch
    from engine.prompts.writer import Writer

EXAMPLES = 4  # rows that a request to induce an instruction shows
AROUND = 20  # tokens of an answer that may lead up to the instruction
SHOWN = 40  # characters of an instruction that an origin names


@dataclass
class Written:
    """What is left of the answers, and how many were dropped for which flaw."""

    instructions: list[Instruction] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        asked = len(self.instructions) + self.dropped.total()
        flaws = "".join(f", {count} {flaw}" for flaw, count in self.dropped.items())
        return f"the model wrote {asked} instructions: {len(self.instructions)} kept{flaws}"


def write(task: Task, options: SelectPromptOptions, writer: Writer, seed: int) -> Written:
    """As many of both kinds as the options ask for, less those that cannot serve."""
    asks = [*rewrites(task, options), *inductions(task, options.induction, random.Random(f"{seed} induction"))]
    found, known = Written(), {instruction.text for instruction in pool.given(options)}
    answers = writer.write([request for request, _ in asks], options.written_tokens + AROUND)
    for (_, origin), answer in zip(asks, answers, strict=True):
        text = requests.line(answer)
        flaw = flawed(text, answer, options.written_tokens, writer.length) or ("repeated" if text in known else "")
        if flaw:
            found.dropped[flaw] += 1
        else:
            known.add(text)
            found.instructions.append(Instruction(text, origin))
    return found


def rewrites(task: Task, options: SelectPromptOptions) -> list[tuple[str, str]]:
    """(request, origin): the given instructions in turn, the task's description where there is none."""
    texts = [instruction.text for instruction in pool.given(options)] or [task.description]
    asked = [texts[number % len(texts)] for number in range(options.rewrites)]
    return [(requests.paraphrase(text), f"other words for {text[:SHOWN]!r}") for text in asked]


def inductions(task: Task, count: int, generator: random.Random) -> list[tuple[str, str]]:
    """(request, origin): each from other training rows, classes in turn where the choices are labels."""
    shown = min(EXAMPLES, len(task.train))
    draws = [pool.draw(task.train, shown, bool(task.labels), generator) for _ in range(count)]
    return [(requests.induction(task, rows), f"induced from {shown} examples") for rows in draws]


def flawed(text: str, answer: Answer, longest: int, length: Callable[[str], int]) -> str:
    """Why the instruction that was read in an answer cannot serve; empty where it can."""
    whole = answer.ended or "\n" in answer.text.strip() or text.endswith((".", "!", "?"))
    flaws = {
        "empty": len(text.split()) < 2,
        "about the request": requests.evasive(text),
        "cut off": not whole,
        "with fields in braces": "{" in text or "}" in text,
        f"longer than {longest} tokens": length(text) > longest,
    }
    return next((flaw for flaw, found in flaws.items() if found), "")


def check(task: Task, options: SelectPromptOptions, where: str) -> None:
    """Raises UsageError for rewrites of nothing, or an induction from nothing."""
    if options.rewrites and not pool.given(options) and not task.description:
        hint = "give the step candidates or a pool, or the task a description"
        raise UsageError("there is no instruction to rewrite", where=f"{where}.rewrites", hint=hint)
    if options.induction and not task.train:
        hint = "name a file for train"
        raise UsageError(
            "there are no training rows to induce an instruction from", where=f"task {task.name}", hint=hint
        )
