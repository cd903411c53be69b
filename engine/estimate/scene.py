"""The point of a run that an estimate looks at: its workspace, the model's sizes there, and what the steps before have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.rows import Row
from engine.estimate.sizes import Sizes
from engine.prompts.pool import BASELINE
from engine.prompts.template import Prompt
from engine.workspace import Workspace

LOOKED_AT = 64  # rows whose tokens are counted


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
    cache.
    """

    workspace: Workspace
    sizes: Sizes
    changed: bool = False
    collected: bool = False

    def tokens(self, rows: Sequence[Row], template: str) -> float:
        """Tokens of a row in the template, on the mean, times the sequences that its choices take."""
        some = rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]
        tokenizer: Any = self.workspace.subject.tokenizer
        prompt = Prompt(BASELINE, template)
        lengths = [len(ids) for ids in tokenizer([prompt.fill(row) for row in some]).input_ids]
        return sum(length * self.sequences(row) for length, row in zip(lengths, some, strict=True)) / max(1, len(some))

    def asked(self, rows: Sequence[Row], template: str) -> Asked:
        """Of the rows in the template: the mean is that of some, the longest one is sought among those of most letters."""
        tokenizer: Any = self.workspace.subject.tokenizer
        prompt = Prompt(BASELINE, template)
        texts = [prompt.fill(row) + max(row.choices, key=len) for row in rows]
        some = texts[:: max(1, len(texts) // LOOKED_AT)][:LOOKED_AT]
        lengths = [len(ids) for ids in tokenizer(some).input_ids]
        most = max(len(ids) for ids in tokenizer(sorted(texts, key=len)[-LOOKED_AT:]).input_ids)
        choices = {choice for row in rows for choice in row.choices}
        answer = max(len(ids) for ids in tokenizer(sorted(choices), add_special_tokens=False).input_ids)
        return Asked(max(map(self.sequences, rows[:LOOKED_AT])), sum(lengths) / len(lengths), most, answer)

    def sequences(self, row: Row) -> int:
        """One where every choice is a single token, else one a choice."""
        tokenizer: Any = self.workspace.subject.tokenizer
        ids = tokenizer(list(row.choices), add_special_tokens=False).input_ids
        return 1 if all(len(tokens) == 1 for tokens in ids) else len(row.choices)
