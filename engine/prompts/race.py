"""The race that prompt optimizers run: candidates meet the same development rows, block by block, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from engine.data.rows import Row
from engine.prompts import answers, calibration
from engine.prompts.answers import Given
from engine.prompts.judging import ACCURACY, Standing
from engine.prompts.template import Prompt


@dataclass
class Race:
    """`score(prompt, rows)` gives log-likelihoods [rows, choices], or free answers; `content_free(prompt)` the former of
    meaningless inputs; `metric` makes figures of them.

    `report(candidate, standing, round, alive)` is told of every figure. Scores lie in `scores[candidate]`, row by row. The
    rows before `first` have led a search: they calibrate still, but the best on them may only be lucky there, so that figures
    are of the rows behind them.
    """

    prompts: list[Prompt]
    rows: Sequence[Row]
    budget: int
    kind: str
    tokens: list[int]
    score: Callable[[Prompt, Sequence[Row]], Given]
    content_free: Callable[[Prompt], torch.Tensor]
    report: Callable[[int, Standing, int, bool], None]
    spent: int = 0
    first: int = 0
    metric: str = ACCURACY
    scores: dict[int, Given] = field(default_factory=dict)
    _content_free: dict[int, torch.Tensor] = field(default_factory=dict)

    def enter(self, prompt: Prompt, tokens: int) -> None:
        """Adds a candidate, behind the others."""
        self.prompts.append(prompt)
        self.tokens.append(tokens)

    def met(self, candidate: int) -> int:
        """How many development rows a candidate has met."""
        return len(self.scores.get(candidate, ()))

    def advance(self, candidate: int, rows: int) -> Standing:
        """Lets a candidate meet development rows until it has met `rows` (fewer when the budget ends)."""
        have = self.met(candidate)
        new = self.rows[have : min(rows, have + self.budget - self.spent)]
        if new:
            scored = self.score(self.prompts[candidate], new)
            old = self.scores.get(candidate)
            self.scores[candidate] = scored if old is None else answers.joined(old, scored)
            self.spent += len(new)
        return self.standing(candidate)

    def catch_up(self, candidate: int, other: int) -> None:
        """Lets a candidate meet as many rows as another has, whatever is left of the budget."""
        missing = max(0, self.met(other) - self.met(candidate))
        self.budget = max(self.budget, self.spent + missing)
        self.advance(candidate, self.met(other))

    def offsets(self, candidate: int, kind: str | None = None) -> torch.Tensor | None:
        """Calibration offsets [choices] of a candidate, from the development rows it has met; None of free answers."""
        kind, scores = self.kind if kind is None else kind, self.scores[candidate]
        if not isinstance(scores, torch.Tensor):
            return None
        if kind == "contextual" and candidate not in self._content_free:
            self._content_free[candidate] = self.content_free(self.prompts[candidate])
        return calibration.offsets(kind, scores, self._content_free.get(candidate))

    def standing(self, candidate: int) -> Standing:
        """Figures of the rows that count, calibrated."""
        counting = self.scores[candidate][self.first :]
        rows = self.rows[self.first : self.met(candidate)]
        return answers.judged(self.metric, counting, self.offsets(candidate), rows)

    def tell(self, candidate: int, round_: int, alive: bool) -> None:
        self.report(candidate, self.standing(candidate), round_, alive)

    def ranked(self, candidates: Sequence[int]) -> list[int]:
        """Best first: by skill, then the shorter prompt."""
        skill = {c: self.standing(c).skill for c in candidates}
        return sorted(candidates, key=lambda c: (-skill[c], self.tokens[c], c))
