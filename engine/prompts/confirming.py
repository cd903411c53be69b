"""Whether a verdict of a step's test rows holds on the task's confirm rows, which nothing else of a run sees: a prompt that is
better on one sample may be so by luck, and less so on two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from engine import figures, statistics
from engine.prompts import answers
from engine.prompts.answers import Given
from engine.prompts.judging import Standing
from engine.prompts.scorer import Scorer

if TYPE_CHECKING:
    from engine.prompts.finals import Finals

Judged = tuple[float, str]
"""Holm's p-value and the verdict"""


@dataclass
class Confirming:
    """Asks a finalist about the confirm rows once, when the first verdict on it is to be tried; calibration is the race's."""

    finals: Finals
    scorer: Scorer
    stage: str
    _given: dict[int, Given] = field(default_factory=dict)

    def settled(self, judged: Sequence[Judged], kind: str) -> list[Judged]:
        """The winner's verdicts against the other finalists, in their order: a tie where the confirm rows do not say the same.

        Every comparison that is tried is told. Without confirm rows nothing is.
        """
        *others, winner = self.finals.indices
        tried = [at for at, (_, verdict) in enumerate(judged) if verdict != "tie"]
        if not tried or not self.finals.task.confirm:
            return list(judged)
        best, bases = self._standing(winner, kind), [self._standing(others[at], kind) for at in tried]
        compared = [best.measured.against(base.measured, self.finals.workspace.profile.seed) for base in bases]
        out, again = list(judged), statistics.verdicts(compared, best.measured.lower)
        for at, paired, (p_holm, verdict) in zip(tried, compared, again, strict=True):
            self.finals.tell(others[at], self.stage, "confirm", kind, paired, (p_holm, verdict))
            p_test, said = out[at]
            if verdict != said:
                out[at] = p_test, "tie"
                self._withdraw(others[at], said, kind, paired)
        return out

    def _withdraw(self, other: int, said: str, kind: str, paired: statistics.Paired) -> None:
        race, metric = self.finals.race, self.finals.task.metric
        names = f"{race.prompts[self.finals.indices[-1]].name} is {said} than {race.prompts[other].name}"
        shown = figures.difference(paired.difference, paired.low, paired.high, metric)
        where = f"({self.stage}, {kind}) on test rows"
        self.finals.workspace.log(f"{names} {where}, which {paired.n} confirm rows do not repeat ({shown}): a tie")

    def _standing(self, index: int, kind: str) -> Standing:
        finals = self.finals
        prompt, rows = finals.race.prompts[index], finals.task.confirm
        if index not in self._given:
            self.scorer.tell = partial(finals.progress, f"confirm rows: {prompt.name}")
            self._given[index] = answers.asked(self.scorer, finals.task, prompt, rows)
        return answers.judged(finals.task.metric, self._given[index], finals.race.offsets(index, kind), rows)
