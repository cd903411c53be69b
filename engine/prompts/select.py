"""The `select_prompt` step: race the pool on the development split, compare winner and baseline on the test split."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from engine import events as ev
from engine import files, statistics
from engine.data.tasks import Row, Task
from engine.errors import UsageError
from engine.prompts import calibration, pool
from engine.prompts.cache import ScoreCache
from engine.prompts.options import SelectPromptOptions
from engine.prompts.race import Race, Standing, standing
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.registry import OPTIMIZERS
from engine.subject import Subject
from engine.workspace import Workspace


def run(workspace: Workspace, options: SelectPromptOptions) -> dict[str, Any]:
    """Chooses a prompt for the model as it is now; returns the step's summary."""
    if not workspace.subject.is_language_model:
        raise UsageError("prompts need a language model", where=f"step.{workspace.step}")
    task = workspace.task(options.task)
    check_calibration(task, options)
    prompts = pool.build(task, options, workspace.profile.seed, prefix(workspace))
    scorer = Scorer(workspace.subject, ScoreCache(), lambda done, total: workspace.check_stop())
    for prompt, tokens in zip(prompts, lengths(workspace.subject, prompts), strict=True):
        event = ev.CandidateAdded(step=workspace.step, candidate=prompt.name, text=prompt.text(), origin=prompt.origin,
                                  tokens=tokens)  # fmt: skip
        workspace.emit(event)
    race = make_race(workspace, options, task, prompts, scorer)
    winner = OPTIMIZERS.load(options.method).choose(race)
    race.catch_up(0, winner)  # the baseline's calibration is fitted on as many rows as the winner's
    winner = race.ranked([0, winner])[0]  # a baseline that left the race early may be the better one on common rows
    trial = Trial(workspace, options, task, race, [prompts[0], prompts[winner]], [0, winner])
    result = trial.compare(scorer, workspace.stage)
    trial.write(result)
    if options.control and workspace.stage != "dense":
        trial.control()
    return {
        "task": task.name, "winner": prompts[winner].name, "baseline": prompts[0].name, "stage": workspace.stage,
        "calibration": options.calibration, "candidates": len(prompts), "scored": race.spent,
        "accuracy": result[-1].accuracy, "baseline_accuracy": result[0].accuracy, "rows": len(result[0].correct),
    }  # fmt: skip


def prefix(workspace: Workspace) -> str:
    """Sets the candidates of a profile's second, third ... selection apart from the first one's."""
    earlier = sum(isinstance(step, SelectPromptOptions) for step in workspace.profile.step[: workspace.step])
    return f"{earlier + 1}." if earlier else ""


def make_race(
    workspace: Workspace, options: SelectPromptOptions, task: Task, prompts: list[Prompt], scorer: Scorer
) -> Race:
    """The race over the development rows; every figure becomes an event."""
    rows = task.dev[: options.dev_rows]
    budget = options.budget
    if budget < len(prompts):
        hint = f"raise the budget to at least {4 * len(prompts)}, or shrink the pool"
        raise UsageError(f"a budget of {budget} examples for {len(prompts)} prompts", where=f"step.{workspace.step}.budget",
                         hint=hint)  # fmt: skip
    clock = {"began": time.perf_counter(), "spent": 0}

    def score(prompt: Prompt, new: Any) -> torch.Tensor:
        scores = scorer.score(prompt, new, most_choices(task))
        clock["spent"] += len(new)
        workspace.progress("racing prompts", int(clock["spent"]), budget, "examples")
        return scores

    def report(candidate: int, figures: Standing, number: int, alive: bool) -> None:
        ms = 1000 * (time.perf_counter() - clock["began"]) / max(1, clock["spent"])
        scored = scored_event(workspace, prompts[candidate].name, workspace.stage, "dev", options.calibration, figures)
        workspace.emit(ev.CandidateScored(**{**scored, "ms": round(ms, 2), "round": number, "alive": alive}))

    return Race(
        prompts, rows, budget, options.calibration, lengths(workspace.subject, prompts), score,
        partial(calibration.content_free_scores, scorer, row=rows[0]), report,
    )  # fmt: skip


def scored_event(
    workspace: Workspace, name: str, stage: str, split: str, kind: str, figures: Standing
) -> dict[str, Any]:
    """The fields of a CandidateScored."""
    n = len(figures.correct)
    low, high = statistics.wilson(int(figures.correct.sum()), n)
    return {
        "step": workspace.step, "candidate": name, "stage": stage, "split": split, "calibration": kind, "n": n,
        "accuracy": figures.accuracy, "low": low, "high": high, "margin": figures.margin,
    }  # fmt: skip


@dataclass
class Trial:
    """The finalists on the untouched test split. The baseline comes first; offsets were fitted on development rows."""

    workspace: Workspace
    options: SelectPromptOptions
    task: Task
    race: Race
    finalists: list[Prompt]
    indices: list[int]
    _scores: list[torch.Tensor] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        return self.task.test[: self.options.test_rows]

    def compare(self, scorer: Scorer, stage: str) -> list[Standing]:
        """Scores, tells and compares the finalists, without and under the chosen calibration; returns the latter."""
        scores = []
        for prompt in self.finalists:
            scorer.tell = partial(self._progress, f"test split: {prompt.name}")
            scores.append(scorer.score(prompt, self.rows, most_choices(self.task)))
        figures: list[Standing] = []
        for kind in dict.fromkeys(["none", self.options.calibration]):
            gold = [row.gold for row in self.rows]
            figures = [
                standing(calibration.apply(s, self.race.offsets(i, kind)), gold)
                for s, i in zip(scores, self.indices, strict=True)
            ]
            self._tell(figures, kind, stage)
        self._scores = scores
        return figures

    def control(self) -> None:
        """The same prompts on the dense model: without this a gain can be plain adaptation to the task.

        Its calibration is fitted on its own development scores.
        """
        check = lambda done, total: self.workspace.check_stop()  # noqa: E731
        scorer = Scorer(self.workspace.dense_subject(), ScoreCache(), check)
        rows = self.race.rows[: self.race.met(self.indices[-1])]
        race = Race(self.race.prompts, rows, 2 * len(rows), self.race.kind, self.race.tokens,
                    partial(scorer.score, width=most_choices(self.task)),
                    partial(calibration.content_free_scores, scorer, row=rows[0]), lambda *_: None)  # fmt: skip
        for index in self.indices:
            race.advance(index, len(rows))
        Trial(self.workspace, self.options, self.task, race, self.finalists, self.indices).compare(scorer, "dense")

    def _progress(self, label: str, done: int, total: int) -> None:
        self.workspace.progress(label, done, total, "rows")

    def _tell(self, figures: list[Standing], kind: str, stage: str) -> None:
        base, best = figures[0], figures[-1]
        for prompt, one in zip(self.finalists, figures, strict=True):
            self.workspace.emit(
                ev.CandidateScored(**scored_event(self.workspace, prompt.name, stage, "test", kind, one))
            )
        paired = statistics.compare(best.correct, base.correct, self.workspace.profile.seed)
        self.workspace.emit(
            ev.PromptsCompared(
                step=self.workspace.step, a=self.finalists[-1].name, b=self.finalists[0].name, stage=stage, split="test",
                calibration=kind, n=paired.n, difference=paired.difference, low=paired.low, high=paired.high,
                p_value=paired.p_value, verdict=paired.verdict,
            )
        )  # fmt: skip

    def write(self, figures: list[Standing]) -> None:
        """Winner, its text and the finalists' answers per row under artifacts/prompts/."""
        folder = self.workspace.artifact("prompts")
        folder.mkdir(parents=True, exist_ok=True)
        winner = self.finalists[-1]
        record = {
            **winner.as_json(), "task": self.task.name, "labels": self.task.labels,
            "calibration": self.options.calibration, "offsets": self.race.offsets(self.indices[-1]).tolist(),
        }  # fmt: skip
        files.write_text(folder / "winner.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        files.write_text(folder / "winner.txt", winner.text())
        lines = [json.dumps(self._example(i), ensure_ascii=False) for i in range(len(self.rows))]
        files.write_text(folder / "examples.jsonl", "\n".join(lines) + "\n")
        size = files.folder_bytes(folder)
        self.workspace.emit(
            ev.ArtifactWritten(step=self.workspace.step, path=f"artifacts/{folder.name}", format="prompts", bytes=size)
        )

    def _example(self, index: int) -> dict[str, Any]:
        """One test row and what each finalist answered, calibrated."""
        row = self.rows[index]
        answers = {}
        for prompt, scores, candidate in zip(self.finalists, self._scores, self.indices, strict=True):
            offsets = self.race.offsets(candidate, self.options.calibration)
            calibrated = calibration.apply(scores[index : index + 1], offsets)[0]
            best = int(calibrated.argmax())
            answers[prompt.name] = {
                "choice": row.choices[best].strip(), "correct": best == row.gold,
                "scores": {c.strip(): round(float(s), 4) for c, s in zip(row.choices, calibrated, strict=False)},
            }  # fmt: skip
        return {"row": index, "text": row.text, "gold": row.choices[row.gold].strip(), "stage": self.workspace.stage,
                "answers": answers}  # fmt: skip


def check_calibration(task: Task, options: SelectPromptOptions) -> None:
    """Raises UsageError when the task's choices differ from row to row: then there is no bias of a word to correct."""
    if options.calibration != "none" and not task.labels:
        hint = 'calibration = "none"'
        raise UsageError("calibration needs a task with fixed labels", where=f"task {task.name}", hint=hint)


def most_choices(task: Task) -> int:
    """The most choices that any row of the task has."""
    return max(len(row.choices) for row in [*task.dev, *task.test])


def lengths(subject: Subject, prompts: list[Prompt]) -> list[int]:
    """Tokens of each prompt with its fields unfilled."""
    assert subject.tokenizer is not None
    return [len(ids) for ids in subject.tokenizer([prompt.text() for prompt in prompts]).input_ids]
