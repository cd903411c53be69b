"""What the local model is asked for while prompts are adjusted, and how its answers are read.

Small models answer with preambles, quotes and lists, and are cut off in the middle: what is left of an answer is one
short instruction, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.data.options import verbalized
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts.template import SEPARATOR, fill

LONGEST = 60  # words of an instruction
CLIP = 240  # characters of a field that a request shows
ONLY = "Answer with the new instruction only."

_PREAMBLE = re.compile(r"^(sure|certainly|of course|okay|here(['’]s| is| are))\b[^:\n]*:\s*", re.IGNORECASE)
_TITLE = re.compile(r"^(\w+ ){0,3}(instruction|prompt|phrase|task|text)s?\s*:\s*", re.IGNORECASE)
_ABOUT = re.compile(r"\b(instructions?|prompts?|rewrit\w*|rephras\w*|paraphras\w*|merg\w*)\b", re.IGNORECASE)
_BULLET = re.compile(r"^([-*•]|\d+[.)])\s+")
_ENDS = re.compile(r"[.!?](?=\s|$)")


class Answer(NamedTuple):
    """What the local model wrote, and whether it ended there by itself."""

    text: str
    ended: bool


def paraphrase(text: str) -> str:
    return f"Rewrite this instruction in other words and keep its meaning. {ONLY}\nInstruction: {text}"


def restate(text: str) -> str:
    return f"Say this in other words and keep its meaning. Answer with the new text only.\nText: {text}"


def crossover(one: str, other: str) -> str:
    return f"Merge these two instructions for the same task into one. {ONLY}\nFirst: {one}\nSecond: {other}"


def induction(task: Task, rows: Sequence[Row]) -> str:
    """Which instruction leads from these inputs to their answers (APE, arXiv 2211.01910)."""
    begin = "Somebody was given an instruction and answered these as follows."
    return f"{begin}\n\n{_shown(task, rows)}\n\nWhat was the instruction?{_answers(task)} {ONLY}"


def correction(task: Task, instruction: str, wrong: Sequence[Row]) -> str:
    """A better instruction than one that answers these rows wrongly (ProTeGi, arXiv 2305.03495)."""
    begin = f"This instruction is not good enough: {instruction}\n\nWith it these were answered wrongly. Right is:"
    return f"{begin}\n\n{_shown(task, wrong)}\n\nWrite a better instruction.{_answers(task)} {ONLY}"


def succession(task: Task, scored: Sequence[tuple[str, float]]) -> str:
    """An instruction that goes on from those before it, the best one last (OPRO, arXiv 2309.03409)."""
    lines = "\n".join(f"{round(100 * skill)}% right: {text}" for text, skill in sorted(scored, key=lambda s: s[1]))
    return (
        f"Instructions for a task, and how well they do:\n{lines}\n\nWrite one that does better.{_answers(task)} {ONLY}"
    )


def instruction(answer: Answer) -> str | None:
    """The instruction in an answer; None when there is none, it is too long, or it talks about the request."""
    text = line(answer)
    return text if 2 <= len(text.split()) <= LONGEST and not evasive(text) else None


def restated(answer: Answer, text: str) -> str | None:
    """The other words for a text in an answer; None when they are the same, or half or twice as many."""
    other, words = line(answer), len(text.split())
    same = other.casefold() == text.casefold()
    return other if words / 2 <= len(other.split()) <= 2 * words and not same else None


def evasive(text: str) -> bool:
    """Whether it talks about the request."""
    return _ABOUT.search(text) is not None


def line(answer: Answer) -> str:
    """The first line without what leads up to it, its title and its quotes, whole sentences where it was cut off."""
    lines = [s for part in _PREAMBLE.sub("", answer.text.strip()).split("\n") if (s := part.strip())]
    first = lines[0] if lines else ""
    first = _TITLE.sub("", _BULLET.sub("", first)).strip().strip("\"“”'`*").strip()
    ends = [match.end() for match in _ENDS.finditer(first)]
    cut = not answer.ended and len(lines) == 1
    return first[: ends[-1]] if cut and ends and ends[-1] < len(first) else first


def _shown(task: Task, rows: Sequence[Row]) -> str:
    """Rows as the task's template has them, with their right answers; long fields are clipped."""
    clipped = [replace(row, fields={name: value[:CLIP] for name, value in row.fields.items()}) for row in rows]
    return SEPARATOR.join(fill(task.template, row) + row.choices[row.gold] for row in clipped)


def _answers(task: Task) -> str:
    words = [first.strip() for first, *_ in verbalized(task.labels).values()]
    return f" The answers are: {', '.join(words)}." if words else ""
