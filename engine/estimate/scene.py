"""The point of a run that an estimate looks at: its workspace, the model's sizes there, and what the steps before have done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.data.rows import Row
from engine.estimate.sizes import Sizes
from engine.prompts.pool import BASELINE
from engine.prompts.template import Prompt
from engine.workspace import Workspace

LOOKED_AT = 64  # rows whose tokens are counted
Item = TypeVar("Item")


@dataclass(frozen=True)
class Asked:
    """What a row's question comes to: its sequences, their tokens (choice included) on the mean and at most, and the most
    tokens of an answer.
    """

    sequences: int
    mean: float
    longest: int
    answer: int


@dataclass(frozen=True)
class Scene:
    """`changed`: a step before has changed the weights; `collected`: one has left the statistics of the model as it is in the
    cache; `confirms`: finalists may be asked about the task's confirm rows.
    """

    workspace: Workspace
    sizes: Sizes
    changed: bool = False
    collected: bool = False
    confirms: bool = True

    def tokens(self, rows: Sequence[Row], template: str) -> float:
        """Tokens of a row in the template, on the mean, times the sequences that its choices take."""
        some, prompt = spread(rows), Prompt(BASELINE, template)
        lengths = self._lengths([prompt.fill(row) for row in some])
        return sum(a * b for a, b in zip(lengths, self.sequences(some), strict=True)) / max(1, len(some))

    def asked(self, rows: Sequence[Row], template: str) -> Asked:
        """Of the rows in the template: the mean is that of some, the longest one is sought among those of most letters."""
        prompt = Prompt(BASELINE, template)
        texts = [prompt.fill(row) + max(words(row), key=len) for row in rows]
        lengths, longest = self._lengths(spread(texts)), self._lengths(sorted(texts, key=len)[-LOOKED_AT:])
        choices = sorted({word for row in rows for word in words(row)})
        answer = max(self._lengths(choices, special=False))
        return Asked(max(self.sequences(rows[:LOOKED_AT])), sum(lengths) / len(lengths), max(longest), answer)

    def sequences(self, rows: Sequence[Row]) -> list[int]:
        """Of every row: one where every word of its choices is a single token, else one a word."""
        known = {some: self._lengths(some, special=False) for some in {words(row) for row in rows}}
        return [1 if set(known[words(row)]) == {1} else len(words(row)) for row in rows]

    def _lengths(self, texts: Sequence[str], special: bool = True) -> list[int]:
        """Tokens of each text, with the special ones that the tokenizer puts around it or without."""
        tokenizer: Any = self.workspace.subject.tokenizer
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=special).input_ids]


def words(row: Row) -> tuple[str, ...]:
    """What is scored of a row: all words of its choices."""
    return tuple(itertools.chain.from_iterable(row.words))


def spread(items: Sequence[Item]) -> Sequence[Item]:
    """Some of them, as many as are looked at, from everywhere."""
    return items[:: max(1, len(items) // LOOKED_AT)][:LOOKED_AT]
