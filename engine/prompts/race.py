"""The race that prompt optimizers run: candidates meet the same development rows, block by block, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from engine.data.rows import Row
from engine.errors import UsageError
from engine.prompts import answers, calibration
from engine.prompts.answers import Given
from engine.prompts.budget import BLOCK, Budget, Unit
from engine.prompts.clock import Clock
from engine.prompts.judging import ACCURACY, Standing
from engine.prompts.template import Prompt


@dataclass
class Race:
    """`score(prompt, rows)` gives log-likelihoods [rows, choices], or free answers; `meaningless(prompt)` the former of the
    inputs that the calibration asks about; `metric` makes figures of them.

    `report(candidate, standing, round, alive)` is told of every figure. Scores lie in `scores[candidate]`, row by row. The
    rows before `first` have led a search: they calibrate still, but the best on them may only be lucky there, so that figures
    are of the rows behind them; one row of these everybody meets, whatever is left.

    `budget` and `spent` are in the `unit`; minutes are the `clock`'s. `ahead(several)`, if any, hears of prompts that are about
    to be scored with their rows, one after the other.
    """

    prompts: list[Prompt]
    rows: Sequence[Row]
    budget: float
    kind: str
    tokens: list[int]
    score: Callable[[Prompt, Sequence[Row]], Given]
    meaningless: Callable[[Prompt], torch.Tensor]
    report: Callable[[int, Standing, int, bool], None]
    unit: Unit = "examples"
    clock: Clock | None = None
    where: str | None = None
    spent: float = 0
    first: int = 0
    metric: str = ACCURACY
    scores: dict[int, Given] = field(default_factory=dict)
    ahead: Callable[[Sequence[tuple[Prompt, Sequence[Row]]]], None] | None = None
    _meaningless: dict[int, torch.Tensor] = field(default_factory=dict)
    _standings: dict[tuple[int, ...], Standing] = field(default_factory=dict)

    def enter(self, prompt: Prompt, tokens: int) -> None:
        """Adds a candidate, behind the others."""
        self.prompts.append(prompt)
        self.tokens.append(tokens)

    def met(self, candidate: int) -> int:
        """How many development rows a candidate has met."""
        return len(self.scores.get(candidate, ()))

    @property
    def left(self) -> float:
        return max(0, self.budget - self.spent)

    @property
    def scored(self) -> int:
        """How many examples have been scored."""
        return sum(map(len, self.scores.values()))

    def price(self, tokens: int) -> float:
        """What a row costs with a prompt of so many tokens; of minutes, what rows have cost on the mean so far."""
        if self.unit == "minutes":
            return self.spent / max(1, self.scored)
        return Budget(self.budget, self.unit).price(tokens)

    def reach(self, group: Sequence[int], amount: float) -> int:
        """How many rows all of the group can have met for so much more; one where nothing is known of what rows cost."""
        met = [self.met(c) for c in group]
        if self.unit == "minutes" and not self.scored:
            return 1
        prices = [self.price(self.tokens[c]) for c in group]
        for rows in range(len(self.rows), min(met), -1):
            if sum(max(0, rows - m) * price for m, price in zip(met, prices, strict=True)) <= amount:
                return rows
        return min(met)

    def block(self, group: Sequence[int]) -> float:
        """What it costs until all of the group have met a block of the rows that count, or all there are."""
        rows = min(self.first + BLOCK, len(self.rows))
        return sum(max(0, rows - self.met(c)) * self.price(self.tokens[c]) for c in group)

    def together(self, group: Sequence[int], amount: float) -> None:
        """Lets all of the group meet the same rows, as many as so much more is enough for, one that counts at least."""
        end, met, rows = self.spent + amount, 0, max(self.first + 1, self.reach(group, amount))
        while rows > met:
            self.foresee(group, rows)
            for candidate in group:
                self.advance(candidate, rows)
            met, rows = rows, self.reach(group, end - self.spent)

    def foresee(self, group: Sequence[int], rows: int) -> None:
        """Tells `ahead` what the group is about to meet, as far as the budget goes; of minutes nobody knows."""
        if not self.ahead or self.clock:
            return
        several, left = list[tuple[Prompt, Sequence[Row]]](), self.left
        for candidate in group:
            price = self.price(self.tokens[candidate])
            new = self.rows[self.met(candidate) : rows][: int(left // price)]
            several += [(self.prompts[candidate], new)] if new else []
            left -= len(new) * price
        self.ahead(several)

    def advance(self, candidate: int, rows: int) -> Standing:
        """Lets a candidate meet development rows until it has met `rows` (fewer when the budget ends).

        Raises UsageError where it ends before the candidate has met any.
        """
        while new := self._affordable(candidate, rows):
            self._meet(candidate, new)
        if candidate not in self.scores:
            over = f"{Budget(self.budget, self.unit)} were over before {self.prompts[candidate].name} had met a row"
            raise UsageError(over, where=self.where, hint="raise the budget, or shrink the pool")
        return self.standing(candidate)

    def _affordable(self, candidate: int, rows: int) -> Sequence[Row]:
        """The next of the rows that there is budget for; of minutes, a block at a time."""
        have = self.met(candidate)
        if self.unit == "minutes":
            count = BLOCK if self.left > 0 else 0
        else:
            count = int(self.left // self.price(self.tokens[candidate]))
        granted = self.first + 1 - have if self.first else 0
        return self.rows[have : min(rows, have + max(count, granted))]

    def charge(self) -> None:
        """Counts the minutes since rows were last met, whatever they went into; nothing of another unit."""
        if self.clock:
            self.spent += self.clock.lap()

    def _meet(self, candidate: int, new: Sequence[Row]) -> None:
        if self.clock:
            self.clock.start()
        scored = self.score(self.prompts[candidate], new)
        old = self.scores.get(candidate)
        self.scores[candidate] = scored if old is None else answers.joined(old, scored)
        if self.clock:
            self.charge()
        else:
            self.spent += len(new) * self.price(self.tokens[candidate])

    def catch_up(self, candidate: int, other: int) -> None:
        """Lets a candidate meet as many rows as another has, whatever is left of the budget."""
        new = self.rows[self.met(candidate) : self.met(other)]
        if new:
            self._meet(candidate, new)

    def offsets(self, candidate: int, kind: str | None = None) -> torch.Tensor | None:
        """Calibration offsets [choices] of a candidate, from the development rows it has met; None of free answers."""
        kind, scores = self.kind if kind is None else kind, self.scores[candidate]
        if not isinstance(scores, torch.Tensor):
            return None
        if kind in calibration.MEANINGLESS and candidate not in self._meaningless:
            self._meaningless[candidate] = self.meaningless(self.prompts[candidate])
        return calibration.offsets(kind, scores, self._meaningless.get(candidate))

    def standing(self, candidate: int, end: int | None = None) -> Standing:
        """Figures of the rows that count, or of those of them ahead of `end`; calibrated."""
        met = self.met(candidate)
        end = met if end is None else end
        key = (candidate, met, self.first, end)
        if key not in self._standings:
            counting, rows = self.scores[candidate][self.first : end], self.rows[self.first : end]
            self._standings[key] = answers.judged(self.metric, counting, self.offsets(candidate), rows)
        return self._standings[key]

    def tell(self, candidate: int, round_: int, alive: bool) -> None:
        self.report(candidate, self.standing(candidate), round_, alive)

    def ranked(self, candidates: Sequence[int]) -> list[int]:
        """Best first: by skill on the rows that all of them have met, then the shorter prompt."""
        common = min(map(self.met, candidates))
        skill = {c: self.standing(c, common).skill for c in candidates}
        return sorted(candidates, key=lambda c: (-skill[c], self.tokens[c], c))

    def best(self, start: int, candidates: Sequence[int]) -> int:
        """The first by rank, or the start where that is hardly ahead of it: of many that are as good, the first is the
        luckiest.
        """
        first = self.ranked(candidates)[0]
        common = min(self.met(first), self.met(start))
        return first if first == start or self.standing(first, common).leads(self.standing(start, common)) else start
