"""The finalists of a prompt step on the untouched test split: figures, paired comparisons, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine import events as ev
from engine import files, statistics, strictjson
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.prompts import answers, calibration, kept, recovered, robustness, soft
from engine.prompts.answers import Given
from engine.prompts.confirming import Confirming, Judged
from engine.prompts.judging import Standing
from engine.prompts.options import PromptStepOptions
from engine.prompts.race import Race
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.statistics import Paired, Regained
from engine.subject import Subject
from engine.workspace import Workspace


@dataclass
class Finals:
    """`indices` are the finalists' in the race, each once, the winner's last. Offsets were fitted on development rows."""

    workspace: Workspace
    options: PromptStepOptions
    task: Task
    race: Race
    indices: list[int]
    _calibrated: list[Given] = field(default_factory=list)
    _figures: list[Standing] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        return self.task.test[: self.options.test_rows]

    @property
    def finalists(self) -> list[Prompt]:
        return [self.race.prompts[index] for index in self.indices]

    def compare(self, scorer: Scorer, stage: str) -> list[Standing]:
        """Scores, tells and compares the finalists, without and under the chosen calibration; returns the latter.

        Figures of test rows are computed in the weights' own number format, whatever the choice was made in.
        """
        scores, scorer = [], scorer.exact
        self.workspace.look(self.task)
        for prompt in self.finalists:
            scorer.tell = partial(self.progress, f"test split: {prompt.name}")
            scores.append(answers.asked(scorer, self.task, prompt, self.rows))
        confirming = Confirming(self, scorer, stage)
        for kind in dict.fromkeys(["none", self.options.calibration]):
            offsets = [self.race.offsets(index, kind) for index in self.indices]
            self._calibrated = [answers.calibrated(*pair) for pair in zip(scores, offsets, strict=True)]
            self._figures = [answers.standing(self.task.metric, found, self.rows) for found in self._calibrated]
            self._tell(self._figures, kind, confirming)
        robustness.tell(self, scorer, stage)
        return self._figures

    def control(self) -> dict[int, Standing]:
        """The same prompts on the dense model: without this a gain can be plain adaptation to the task. Returns their figures
        on the test rows by index.

        Its calibration is fitted on its own development scores. Virtual tokens of other sizes than its own are left out.
        """
        scorer = Scorer.quick(self.workspace, self.workspace.dense_subject())
        rows, options = self.race.rows[: self.race.met(self.indices[-1])], self.options
        inputs = calibration.meaningless(
            options.calibration, self.task.dev[: options.dev_rows], self.workspace.profile.seed
        )
        race = Race(self.race.prompts, rows, len(self.indices) * len(rows), self.race.kind, self.race.tokens,
                    partial(answers.asked, scorer, self.task),
                    partial(scorer.score, rows=inputs), lambda *_: None,
                    metric=self.task.metric)  # fmt: skip
        indices = [index for index in self.indices if self._fits(index, scorer.subject)]
        for index in indices:
            race.advance(index, len(rows))
        if not indices:
            return {}
        finals = Finals(self.workspace, self.options, self.task, race, indices)
        return dict(zip(indices, finals.compare(scorer, "dense"), strict=True))

    def recovered(self, plain: int, dense: dict[int, Standing]) -> Regained:
        """Tells what the winner wins back of what the plain prompt lost, each model calibrated on its own development rows."""
        base, best = (self._figures[self.indices.index(index)].measured.right for index in (plain, self.indices[-1]))
        same = dense[self.indices[-1]].measured.right if self.indices[-1] in dense else None
        name, stage = self.finalists[-1].name, self.workspace.stage
        return recovered.tell(self.workspace, name, best, base, dense[plain].measured.right, same, stage=stage)

    def _fits(self, index: int, dense: Subject) -> bool:
        prompt = self.race.prompts[index]
        fits = prompt.soft is None or prompt.soft.fits(dense)
        if not fits:
            self.workspace.log(f"the dense model has other sizes: {prompt.name} cannot be tried on it", "warning")
        return fits

    def progress(self, label: str, done: int, total: int) -> None:
        """Of rows."""
        self.workspace.progress(label, done, total, "rows")

    def _tell(self, figures: list[Standing], kind: str, confirming: Confirming) -> None:
        """Every finalist's figures, and the winner's difference to each of the others."""
        stage, told = confirming.stage, dict(zip(self.indices, zip(self.finalists, figures, strict=True), strict=True))
        for prompt, one in told.values():
            self.workspace.emit(
                ev.CandidateScored(**scored_event(self.workspace, prompt.name, stage, "test", kind, one))
            )
        *bases, best = figures
        seed = self.workspace.profile.seed
        compared = [best.measured.against(base.measured, seed) for base in bases]
        judged = confirming.settled(statistics.verdicts(compared, best.measured.lower), kind)
        for index, paired, verdict in zip(self.indices[:-1], compared, judged, strict=True):
            self.tell(index, stage, "test", kind, paired, verdict)

    def tell(self, other: int, stage: str, split: str, kind: str, paired: Paired, judged: Judged) -> None:
        """The winner's difference to another finalist."""
        p_holm, verdict = judged
        self.workspace.emit(
            ev.PromptsCompared(
                step=self.workspace.step, a=self.finalists[-1].name, b=self.race.prompts[other].name, stage=stage,
                split=split, calibration=kind, n=paired.n, difference=paired.difference, low=paired.low,
                high=paired.high, p_value=paired.p_value, verdict=verdict, p_holm=p_holm, metric=self.task.metric,
            )
        )  # fmt: skip

    def write(self, name: str) -> None:
        """Winner, its text and the compared finalists' answers per row under artifacts/NAME/."""
        folder = self.workspace.run.artifacts / name
        winner = self.finalists[-1]
        offsets = self.race.offsets(self.indices[-1])
        folder.mkdir(parents=True, exist_ok=True)
        if winner.soft is not None:
            winner.soft.save(folder, self.workspace.subject)
        virtual = winner.soft.tokens if winner.soft else 0
        kept.write(
            folder,
            kept.Kept(
                winner, self.task.name, self.task.labels, self.options.calibration,
                [] if offsets is None else offsets.tolist(), virtual, self.task.scores,
            ),
        )  # fmt: skip
        lines = [strictjson.dumps(self._example(i)) for i in range(len(self.rows))]
        files.write_text(folder / kept.EXAMPLES, "\n".join(lines) + "\n")
        size = files.folder_bytes(folder)
        self.workspace.emit(
            ev.ArtifactWritten(step=self.workspace.step, path=f"artifacts/{name}", format="prompts", bytes=size)
        )

    def _example(self, index: int) -> dict[str, Any]:
        """One test row and what each finalist answered, calibrated."""
        row = self.rows[index]
        found = zip(self.finalists, self._calibrated, self._figures, strict=True)
        given = {prompt.name: answers.record(some[index], row, figures, index) for prompt, some, figures in found}
        return {
            "row": index, "digest": row.digest, "text": row.text, "fields": row.fields, "gold": row.choices[row.gold].strip(),
            "stage": self.workspace.stage, "metric": self.task.metric, "answers": given,
        }  # fmt: skip


def scored_event(
    workspace: Workspace, name: str, stage: str, split: str, kind: str, figures: Standing
) -> dict[str, Any]:
    """The fields of a CandidateScored."""
    low, high = figures.measured.interval(workspace.profile.seed)
    return {
        "step": workspace.step, "candidate": name, "stage": stage, "split": split, "calibration": kind, "n": figures.rows,
        "accuracy": figures.quality, "low": low, "high": high, "margin": figures.margin,
        "metric": figures.measured.metric,
    }  # fmt: skip


def latest_winner(workspace: Workspace, task: str) -> Prompt | None:
    """What the last of the run's earlier prompt steps chose for the task, without virtual tokens that the model as it is now
    has no room for.
    """
    for index in reversed(range(workspace.step)):
        done = workspace.finished(index)
        if done and done["summary"].get("task") == task and "prompts" in done["summary"]:
            folder = Path(workspace.run.artifacts, done["summary"]["prompts"])
            return replace(kept.read(folder).prompt, soft=_fitting(workspace, soft.load(folder)))
    return None


def _fitting(workspace: Workspace, known: soft.Soft | None) -> soft.Soft | None:
    if known is None or known.fits(workspace.subject):
        return known
    workspace.log(f"the model has other sizes now: {known.tokens} learned {known.form} tokens are left out", "warning")
    return None
