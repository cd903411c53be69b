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

    def sequences(self, row: Row) -> int:
        """One where every choice is a single token, else one a choice."""
        tokenizer: Any = self.workspace.subject.tokenizer
        ids = tokenizer(list(row.choices), add_special_tokens=False).input_ids
        return 1 if all(len(tokens) == 1 for tokens in ids) else len(row.choices)
