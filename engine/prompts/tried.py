"""A prompt that was edited by hand beside the one that it was made from: both meet the same development rows, a few more each
time, so that there are figures at once.

The test split stays unseen: who edits until a figure pleases has chosen on its rows. A chat is a text with a line for each
turn's role (`turns`); soft prompts are left out, no text says what the model would read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import TemplateError

from engine import statistics
from engine.data.rows import Row, check_template
from engine.data.tasks import Task, load_task
from engine.errors import UsageError
from engine.profile import Profile
from engine.prompts import answers, calibration, rendering, turns
from engine.prompts.answers import Given
from engine.prompts.cache import ScoreCache
from engine.prompts.judging import Standing
from engine.prompts.options import JudgedOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.subject import DTYPES, Subject

FIRST = 8
"""rows of the first figures; each further look has twice as many"""
WHERE = "the edited prompt"


@dataclass
class Tried:
    """A prompt, and what the model has given to the rows so far."""

    prompt: Prompt
    given: Given | None = None

    def meet(self, scorer: Scorer, task: Task, new: Sequence[Row]) -> None:
        found = answers.asked(scorer, task, self.prompt, new)
        self.given = found if self.given is None else answers.joined(self.given, found)

    def standing(self, scorer: Scorer, task: Task, rows: Sequence[Row], kind: str, inputs: Sequence[Row]) -> Standing:
        """The figures on all rows so far, calibrated on them, or on meaningless inputs, as the step would."""
        assert self.given is not None
        offsets = None
        if not isinstance(self.given, tuple):
            offsets = calibration.fitted(kind, scorer, self.prompt, self.given, inputs)
        return answers.judged(task.metric, self.given, offsets, rows)


def trying(
    subject: Subject, profile: Profile, step: int, edited: str, original: str, most: int
) -> Iterator[dict[str, Any]]:
    """Figures of both prompts on the first rows of the step's development split, the last ones with their paired comparison.

    Raises UsageError for a step without a task, a text without any of the task's fields, and what no text can show.
    """
    began, options = time.monotonic(), profile.step[step]
    if not isinstance(options, JudgedOptions):
        raise UsageError("this step chooses no prompt", where=f"step.{step}")
    task = load_task(options.task, profile.task.get(options.task), profile.seed)
    rows, kind = task.dev[: options.dev_rows][:most], options.calibration
    inputs = calibration.meaningless(kind, task.dev[: options.dev_rows], profile.seed)
    if subject.tokenizer is None:
        raise UsageError("this model reads no text", where=subject.source)
    chat = rendering.placed(task, subject.tokenizer) != "off"
    pair = [
        Tried(written(name, text, rows[0].fields, chat)) for name, text in (("edited", edited), ("original", original))
    ]
    check_template(pair[0].prompt.template, rows[0].fields, WHERE)
    scorer = Scorer(subject, ScoreCache(), compute=DTYPES.get(profile.calibration.compute))
    done, tokens = 0, [length(tried.prompt, subject) for tried in pair]
    while done < len(rows):
        new = rows[done : max(FIRST, 2 * done)]
        for tried in pair:
            tried.meet(scorer, task, new)
        done += len(new)
        found = [tried.standing(scorer, task, rows[:done], kind, inputs) for tried in pair]
        line = {"rows": done, "of": len(rows), "metric": task.metric, "seconds": round(time.monotonic() - began, 3)}
        for tried, figures, size in zip(pair, found, tokens, strict=True):
            low, high = figures.measured.interval(profile.seed)
            line[tried.prompt.name] = {"value": figures.quality, "low": low, "high": high, "tokens": size}
        yield line | (_compared(found[0], found[1], profile.seed) if done == len(rows) else {})


def _compared(edited: Standing, original: Standing, seed: int) -> dict[str, Any]:
    paired = edited.measured.against(original.measured, seed)
    return {
        "done": True,
        **asdict(paired),
        "verdict": statistics.verdict(paired, paired.p_value, edited.measured.lower),
    }


def template(text: str, fields: Iterable[str]) -> str:
    """The text as a template: {field} is filled in, all other braces are characters."""
    plain = text.replace("{", "{{").replace("}", "}}")
    for name in fields:
        plain = plain.replace(f"{{{{{name}}}}}", f"{{{name}}}")
    return plain


def written(name: str, text: str, fields: Iterable[str], chat: bool) -> Prompt:
    """The prompt that a text shows. Raises UsageError for a chat that is none."""
    known = list(fields)
    if chat:
        return turns.read(name, text, lambda said: template(said, known), f"the {name} prompt")
    return Prompt(name, template(text, known))


def length(prompt: Prompt, subject: Subject) -> int:
    """Tokens of the text, its fields unfilled. Raises UsageError for turns that the model's template does not take."""
    try:
        return rendering.length(prompt, subject.tokenizer)
    except TemplateError as error:
        message = f"the model's chat template does not take these turns: {error}"
        raise UsageError(message, where=f"the {prompt.name} prompt") from error
