"""The `embed_prompt` step: virtual tokens are trained ahead of the best text prompt, and kept only if better than it.

They stand first in the sequence, where PEFT puts them, and the whole text prompt behind them. The development rows that the
training is checked on are not those that the choice is made on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from engine import events as ev
from engine import files
from engine.data import order
from engine.data.rows import Row
from engine.errors import EngineError
from engine.prompts import answers, calibration, needs, pool, room
from engine.prompts.adjust import starting
from engine.prompts.contest import Contest, prefix
from engine.prompts.forced import AnswerLessons
from engine.prompts.forward import positions
from engine.prompts.judging import Standing
from engine.prompts.lessons import ChoiceLessons, Lessons, Teacher
from engine.prompts.optimizers import exhaustive
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.race import Race
from engine.prompts.reading import Reading, read
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft, beginning
from engine.prompts.template import SEPARATOR, Prompt
from engine.prompts.tuning import Epoch, Trainee, Tuning
from engine.subject import DTYPES
from engine.workspace import Workspace

READING = "reading.json"


@dataclass
class Embedding:
    """The step at work: `start` is the prompt to beat, `rows` are trained on, `checked` judge every epoch."""

    workspace: Workspace
    options: EmbedPromptOptions
    contest: Contest
    start: Prompt
    rows: list[Row]
    checked: Sequence[Row]

    @classmethod
    def of(cls, contest: Contest, options: EmbedPromptOptions, start: Prompt) -> Embedding:
        """Takes the rows that are checked out of the contest's race. Raises UsageError for what the training lacks."""
        checked = held_back(contest, options)
        return cls(contest.workspace, options, contest, start, room.check(contest, options, start), checked)

    @property
    def name(self) -> str:
        return prefix(self.workspace) + self.options.form

    @property
    def alpha(self) -> float:
        """The teacher's weight."""
        return self.options.weight(self.contest.task.generation is not None)

    @property
    def text(self) -> Prompt:
        """What stands behind the virtual tokens that are trained."""
        return room.behind(self.options, self.start)

    def ids(self) -> list[int]:
        """The tokens that the training begins with: those of the instruction or the task's description, once and again."""
        tokenizer: Any = self.workspace.subject.tokenizer
        words = self.start.instruction or self.contest.task.description or self.start.text()
        first = tokenizer(words).input_ids
        more = tokenizer(SEPARATOR + words, add_special_tokens=False).input_ids
        return list(itertools.islice(itertools.chain(first, itertools.cycle(more)), self.options.tokens))

    def beginning(self) -> tuple[Soft, list[int]]:
        """What the training begins with, and its tokens: what an earlier step learned in the same form, else real ones."""
        subject, known = self.workspace.subject, self.start.soft
        if known and (known.form, known.tokens) == (self.options.form, self.options.tokens) and known.fits(subject):
            return known, []
        ids = self.ids()
        return beginning(self.options.form, subject, ids), ids

    def trained(self, start: Soft) -> Soft:
        """The best of the training. Raises EngineError when it changed the model."""
        trainee = Trainee.virtual(start, self.workspace.subject.device)
        best = self.train(trainee, self.name, self.contest.scorer)
        if not self.contest.scorer.intact():
            raise EngineError("training a prompt changed the model's weights", where=f"step.{self.workspace.step}")
        return replace(start, weight_NW=best[0])

    def train(self, trainee: Trainee, name: str, scorer: Scorer) -> list[torch.Tensor]:
        """The best numbers of the trainee, ahead of the text or in the model that the scorer has."""
        workspace, options = self.workspace, self.options
        tuning = Tuning(
            self.lessons(trainee.tokens, scorer), options, workspace.profile.seed, workspace.checkpoint("prompt.safetensors"),
            partial(self.check, scorer=scorer), partial(self.tell, name=name),
            lambda done, total: workspace.progress(f"training {name}", done, total, "optimizer steps"),
            lambda message: workspace.log(message, "warning"),
        )  # fmt: skip
        return tuning.run(trainee)

    def lessons(self, virtual: int, scorer: Scorer) -> Lessons:
        """The rows with the text, for the scorer's model to learn from behind so many virtual tokens."""
        options, task = self.options, self.contest.task
        how: Any = {
            "text": self.text, "rows": self.rows, "virtual": virtual, "teacher": self.teacher(), "alpha": self.alpha,
            "temperature": options.temperature, "compute": DTYPES[self.workspace.profile.calibration.compute],
        }  # fmt: skip
        if task.generation:
            return AnswerLessons.of(scorer, task.generation, **how)
        return ChoiceLessons.of(scorer, **how)

    def teacher(self) -> Teacher | None:
        """The dense model with what it reads; None where nothing is asked of it, or where it is the very model that learns and
        reads the same.
        """
        workspace, options = self.workspace, self.options
        whole, dense = options.taught == "prompt", workspace.stage == "dense"
        prompt = replace(self.start, soft=None) if whole else self.text
        if not self.alpha or (dense and prompt.same(self.text)):
            return None
        scorer = Scorer.quick(workspace, workspace.subject if dense else workspace.dense_subject())
        return Teacher(scorer, prompt, options.calibration if whole else "none", self.contest.meaningless)

    def check(self, soft: Soft | None, scorer: Scorer) -> Standing:
        """How the virtual tokens, or the scorer's model, do on the checked rows, calibrated as the step is."""
        kind, rows, task = self.options.calibration, self.checked, self.contest.task
        prompt = replace(self.text, soft=soft)
        given = answers.asked(scorer, task, prompt, rows)
        offsets = None
        if isinstance(given, torch.Tensor):
            offsets = calibration.fitted(kind, scorer, prompt, given, self.contest.meaningless)
        return answers.judged(task.metric, given, offsets, rows)

    def tell(self, epoch: Epoch, name: str) -> None:
        found = epoch.standing
        self.workspace.emit(
            ev.PromptTrained(
                step=self.workspace.step, candidate=name, epoch=epoch.number, epochs=self.options.epochs,
                loss=epoch.loss, accuracy=found.quality, skill=found.skill, n=found.rows, best=epoch.best,
                seconds=round(epoch.seconds, 3), metric=found.measured.metric,
            )
        )  # fmt: skip

    def enter(self, soft: Soft, reading: Reading) -> tuple[list[int], int]:
        """What is to beat, the start last: what the step began with, what the virtual tokens say, if anything, and the text
        without those that the start has; and the virtual tokens, which are the start itself where nothing better was learned.
        """
        ahead = self.start.name if self.options.behind == "prompt" else "the template"
        origin = f"{soft.tokens} {soft.form} tokens, trained ahead of {ahead}"
        others = [*self.contest.race.prompts, *self.projected(reading)]
        if self.start.soft:
            name = prefix(self.workspace) + "text"
            others.append(replace(self.start, name=name, soft=None, origin=f"{self.start.name} without virtual tokens"))
        index = self.contest.enter(self.start)
        entered = [*(i for i in map(self.contest.enter, others) if i != index), index]
        learned = self.contest.enter(replace(self.text, name=self.name, soft=soft, origin=origin))
        return [i for i in dict.fromkeys(entered) if i != learned], learned

    def projected(self, reading: Reading) -> list[Prompt]:
        """What the virtual tokens say, as a text ahead of the text, where they say something and the model has room for it."""
        if not reading.text:
            return []
        said = SEPARATOR.join(part for part in (reading.text, self.text.instruction) if part)
        name = prefix(self.workspace) + "projected"
        prompt = replace(self.text, name=name, instruction=said, origin=f"{self.name} as a text")
        needed, limit = room.needed(self.contest, prompt, self.rows), positions(self.workspace.subject)
        if limit is not None and needed > limit:
            self.workspace.log(f"{name} is left out: {needed} tokens do not fit in the model's {limit} positions")
            return []
        return [prompt]


def run(workspace: Workspace, options: EmbedPromptOptions) -> dict[str, Any]:
    """Trains virtual tokens for the model as it is now; returns the step's summary."""
    contest = Contest.open(workspace, options)
    contest.enter(pool.plain(contest.task, prefix(workspace)))
    start = starting(contest, options)
    start = contest.race.prompts[contest.enter(start)]
    work = Embedding.of(contest, options, start)
    begun, ids = work.beginning()
    soft = work.trained(begun)
    return settle(work, soft, read(soft, begun, ids, workspace.subject))


def settle(work: Embedding, soft: Soft, reading: Reading) -> dict[str, Any]:
    """The race on development rows, then the test split; the virtual tokens are refused unless they win."""
    workspace, contest, race = work.workspace, work.contest, work.contest.race
    folder = workspace.artifact("soft-prompt")
    tell_reading(work, reading)
    files.write_folder(folder, lambda part: files.write_text(part / READING, json.dumps(asdict(reading), indent=2)))
    others, learned = work.enter(soft, reading)
    exhaustive.meet(race, [*others, learned])
    pick = partial(better, race, contest.enter(work.start), learned)
    summary = contest.settle(learned, others, folder.name, pick)
    kept = soft != work.start.soft and summary["winner"] == race.prompts[learned].name
    if soft == work.start.soft:
        workspace.log(f"nothing was learned that is better than the virtual tokens of {work.start.name}")
    elif not kept:
        skills = [f"{race.standing(i).skill:.3f} of {race.prompts[i].name}" for i in (learned, *others)]
        lead = f"not being ahead of the others by a standard error on {race.met(learned)} development rows"
        message = f"{work.name} is refused, {lead}: "
        workspace.log(message + ", ".join(skills))
    return summary | {"form": soft.form, "virtual_tokens": soft.tokens, "kept": kept}


def better(race: Race, start: int, learned: int, candidates: Sequence[int]) -> int:
    """The virtual tokens where they lead the best of the other candidates, else what of these leads the start, else that."""
    others = [index for index in candidates if index != learned]
    rival = race.ranked(others)[0]
    return learned if race.best(rival, (rival, learned)) == learned else race.best(start, others)


def held_back(contest: Contest, options: EmbedPromptOptions) -> Sequence[Row]:
    """Takes development rows by seed, at most half of them, out of the race for the training's checks; of each class its share,
    so that those that choose keep theirs.
    """
    rows, task, seed = list(contest.race.rows), contest.task, contest.workspace.profile.seed
    count = needs.set_apart(task, len(rows), options.rows)
    held = order.mixed(rows, f"{seed} checked")[:count]
    taken = {id(row) for row in held}  # equal rows are different ones
    contest.race.rows = [row for row in rows if id(row) not in taken]
    return held


def tell_reading(work: Embedding, reading: Reading) -> None:
    told = ev.PromptRead(step=work.workspace.step, candidate=work.name, form=work.options.form, tokens=reading.tokens,
                         cosines=reading.cosines)  # fmt: skip
    work.workspace.emit(told)
