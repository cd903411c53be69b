"""What every prompt step does: candidates enter, race over development rows, and the finalists meet the test split."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine import events as ev
from engine import figures
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts import answers, calibration, context, needs, packing, pool, rendering
from engine.prompts.answers import Given
from engine.prompts.cache import ScoreCache
from engine.prompts.clock import Clock
from engine.prompts.finals import Finals, scored_event
from engine.prompts.judging import Standing
from engine.prompts.options import JudgedOptions, PromptStepOptions
from engine.prompts.race import Race
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.prompts.writer import Writer
from engine.workspace import Workspace


@dataclass
class Contest:
    """One step's candidates on one task; every figure becomes an event. `meaningless` are the inputs that the calibration asks
    every prompt about, if any.
    """

    workspace: Workspace
    options: PromptStepOptions
    task: Task
    scorer: Scorer
    race: Race = field(init=False)
    meaningless: list[Row] = field(init=False)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        rows, budget, seed = self.task.dev[: self.options.dev_rows], self.options.spending, self.workspace.profile.seed
        self.meaningless = calibration.meaningless(self.options.calibration, rows, seed)
        self.race = Race(
            [], rows, budget.amount, self.options.calibration, [], self._score,
            partial(self.scorer.score, rows=self.meaningless), self._report, budget.unit,
            Clock(self.workspace.checkpoint("minutes.jsonl")) if budget.unit == "minutes" else None,
            f"step.{self.workspace.step}.budget", metric=self.task.metric,
            ahead=self._ahead if packing.pays(self.scorer.subject) and not self.task.generation else None,
        )  # fmt: skip

    @classmethod
    def open(cls, workspace: Workspace, options: PromptStepOptions) -> Contest:
        """Raises UsageError for a model without text, or a calibration that the task has no use for."""
        task = fitting_task(workspace, options)
        return cls(workspace, options, task, Scorer.quick(workspace, workspace.subject))

    def find(self, prompt: Prompt) -> int | None:
        """The index of the candidate that is the same prompt under whatever name."""
        return next((i for i, known in enumerate(self.race.prompts) if known.same(prompt)), None)

    def enter(self, prompt: Prompt) -> int:
        """The prompt's index in the race; one that is in it already keeps its place."""
        known = self.find(prompt)
        if known is not None:
            return known
        tokens = length(self.workspace, prompt)
        self.race.enter(prompt, tokens)
        added = ev.CandidateAdded(step=self.workspace.step, candidate=prompt.name, text=prompt.shown(),
                                  origin=prompt.origin, tokens=tokens)  # fmt: skip
        self.workspace.emit(added)
        return len(self.race.prompts) - 1

    def writer(self) -> Writer:
        """The model as it is now, asked for texts."""
        workspace = self.workspace
        return Writer(workspace.subject, ScoreCache(), workspace.profile.seed, workspace.check_stop)

    def check_budget(self, lengths: Sequence[int]) -> None:
        """Raises UsageError when the budget cannot show prompts of so many tokens each a block of the rows that choose."""
        needs.check_blocks(self.options, lengths, len(self.race.rows), f"step.{self.workspace.step}")

    def decide(self, winner: int, baselines: list[int], pick: Callable[[Sequence[int]], int] | None = None) -> int:
        """The winner, or what `pick` chooses among the baselines and it: they meet as many rows as the winner (their
        calibration is fitted on them).
        """
        for index in baselines:
            self.race.catch_up(index, winner)
        return pick([*baselines, winner]) if pick else winner

    def settle(
        self, winner: int, baselines: list[int], folder: str, pick: Callable[[Sequence[int]], int] | None = None
    ) -> dict[str, Any]:
        """The finalists on the test split, their artifact under `folder`; returns the step's summary.

        `pick` chooses among them as `decide` says.
        """
        race = self.race
        winner = self.decide(winner, baselines, pick)
        others = [index for index in baselines if index != winner]
        finals = Finals(self.workspace, self.options, self.task, race, [*others, winner])
        tested = finals.compare(self.scorer, self.workspace.stage)
        finals.write(folder)
        won = self._control(finals) if self.options.control and self.workspace.stage != "dense" else {}
        cut = context.tell(self.workspace, self.scorer)
        base, best = (tested[finals.indices.index(index)] for index in (baselines[-1], winner))
        prompts, metric = race.prompts, self.task.metric
        return {
            "task": self.task.name, "winner": prompts[winner].name, "baseline": prompts[baselines[-1]].name,
            "stage": self.workspace.stage, "calibration": self.options.calibration, "candidates": len(prompts),
            "scored": race.scored, metric: best.quality, f"baseline_{metric}": base.quality, "rows": best.rows,
            "tokens": race.tokens[winner], "baseline_tokens": race.tokens[baselines[-1]], "prompts": folder,
            **won, **({"cut": cut} if cut else {}),
        }  # fmt: skip

    def _control(self, finals: Finals) -> dict[str, str]:
        """The finalists on the dense model. Where a row is right or wrong: what of the loss is won back, for the summary."""
        dense, plain = finals.control(), self.find(pool.plain(self.task))
        if plain is None or not figures.binary(self.task.metric):
            return {}
        found = finals.recovered(plain, dense)
        return {"recovered": figures.ratio(found.value, found.low, found.high)}

    def _ahead(self, several: Sequence[tuple[Prompt, Sequence[Row]]]) -> None:
        """Scores of choices go through the model for several prompts together, and wait in the cache."""
        asked = [(prompt, answers.scored(self.task, rows)) for prompt, rows in several]
        packing.score(self.scorer, asked, self.task.most_choices)

    def _score(self, prompt: Prompt, new: Sequence[Row]) -> Given:
        scores = answers.asked(self.scorer, self.task, prompt, new)
        race = self.race
        tokens = next(tokens for known, tokens in zip(race.prompts, race.tokens, strict=True) if known is prompt)
        cost = 0 if race.clock else len(new) * race.price(tokens)
        done, total = min(race.spent + cost, race.budget), race.budget
        if race.clock:
            self.workspace.progress("racing prompts", round(60 * done), round(60 * total), "seconds")
        else:
            self.workspace.progress("racing prompts", int(done), int(total), race.unit)
        return scores

    def _report(self, candidate: int, figures: Standing, number: int, alive: bool) -> None:
        ms = 1000 * (time.perf_counter() - self.began) / max(1, self.race.scored)
        name, stage = self.race.prompts[candidate].name, self.workspace.stage
        scored = scored_event(self.workspace, name, stage, "dev", self.options.calibration, figures)
        self.workspace.emit(ev.CandidateScored(**{**scored, "ms": round(ms, 2), "round": number, "alive": alive}))


def fitting_task(workspace: Workspace, options: JudgedOptions) -> Task:
    """The step's task. Raises UsageError for a model without text, a calibration that the task has no use for, or rows that
    lack a class.
    """
    if not workspace.subject.is_language_model:
        raise UsageError("prompts need a language model", where=f"step.{workspace.step}")
    task = workspace.task(options.task)
    needs.check_task(task, options)
    return task


def length(workspace: Workspace, prompt: Prompt) -> int:
    """Tokens of a prompt, its virtual ones too."""
    return rendering.length(prompt, workspace.subject.tokenizer) + (prompt.soft.tokens if prompt.soft else 0)


def prefix(workspace: Workspace) -> str:
    """Sets the candidates of a profile's second, third ... prompt step, and those of a step's parts, apart from others."""
    earlier = sum(isinstance(step, JudgedOptions) for step in workspace.profile.step[: workspace.step])
    return (f"{earlier + 1}." if earlier else "") + (f"{workspace.part}." if workspace.part else "")
