"""What of a profile is known to fail before its model is read: files that are not there, tasks, pools, budgets. All at once.

What depends on rows of a hub or of the demo package is left to the run, and so is whatever depends on how the model reads a
text. No torch here, but for adjusters and formats of exports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.data import tables
from engine.data.options import TaskOptions
from engine.data.rows import check_template
from engine.data.tasks import EVERY, Task, load_task
from engine.errors import EngineError, Several, Unavailable, UsageError
from engine.evaluation.options import EvaluateStepOptions
from engine.export.options import ExportOptions
from engine.joint.options import JointOptions
from engine.options import StepOptions
from engine.profile import Profile
from engine.prompts import needs, pool
from engine.prompts.options import (
    AdjustPromptOptions,
    EmbedPromptOptions,
    JudgedOptions,
    PromptStepOptions,
    SelectPromptOptions,
)
from engine.registry import FORMATS
from engine.training.options import TASK, DistillOptions, TrainingOptions


def check(profile: Profile) -> None:
    """Raises Several with everything that is wrong."""
    found: list[EngineError] = []
    for key, source in sources(profile).items():
        with collected(found):
            check_there(source, key)
    known: dict[str, Task] = {}
    for name in tasks(profile):
        options = profile.task.get(name)
        if options is not None and at_hand(options):
            with collected(found):
                known[name] = load_task(name, options, profile.seed)
    for index, step in enumerate(profile.step):
        for one in prompt_steps(step):
            check_written(known.get(one.task), one, f"step.{index}", found)
            if one.task in known:
                check_prompts(known[one.task], one, f"step.{index}", profile.seed, one is step, found)
    with collected(found):
        list(virtual_tokens(profile))
    if found:
        raise Several(found)


def check_written(task: Task | None, options: PromptStepOptions, where: str, found: list[EngineError]) -> None:
    """Adds each text that prompts cannot be made of to what was found; without a task nobody knows its rows' fields."""
    if not isinstance(options, SelectPromptOptions):
        return
    with collected(found):
        pool.given(options)
    for index, template in enumerate(options.templates):
        key = f"{where}.templates.{index}"
        with collected(found):
            check_template(template, None, key) if task is None else pool.check_shown(template, task, key)


def check_prompts(
    task: Task, options: PromptStepOptions, where: str, seed: int, alone: bool, found: list[EngineError]
) -> None:
    """Adds what a way of choosing prompts lacks to what was found; `alone` is a step of its own and no part of another one."""
    with collected(found):
        needs.check_task(task, options)
    if isinstance(options, AdjustPromptOptions):
        with collected(found):
            needs.check_method(task, options, where)
    with collected(found):
        prompts = needs.begun(task, options, seed, where)
        if alone and isinstance(options, SelectPromptOptions):
            pool.check_several(prompts, where)
        if options.spending.unit == "examples":
            needs.check_budget(task, options, [1] * len(prompts), where)


def virtual_tokens(profile: Profile) -> Iterator[str]:
    """Raises UsageError for formats without room for the virtual tokens that a step before may choose; warnings where another
    export of them has it.
    """
    learned = [i for i, s in enumerate(profile.step) if any(isinstance(o, EmbedPromptOptions) for o in prompt_steps(s))]
    exports = {i: step for i, step in enumerate(profile.step) if isinstance(step, ExportOptions)}
    later = {step.format: i for i, step in exports.items() if learned and i > learned[0]}
    room = {name: FORMATS.load(name).FORMAT.adapters for name in later}
    for name in (name for name in later if not room[name]):
        message = f"{name} has no room for the virtual tokens that step {learned[0] + 1} may choose"
        if not any(room.values()):
            hint = 'format = "safetensors", in this step or in one more, or no virtual tokens'
            raise UsageError(message, where=f"step.{later[name]}.format", hint=hint)
        yield f"{message}: with that file there is only the text behind them"


@contextmanager
def collected(found: list[EngineError]) -> Iterator[None]:
    """Goes on behind what fails inside; the same is noted once."""
    try:
        yield
    except EngineError as error:
        if error.lines() not in [known.lines() for known in found]:
            found.append(error)


def sources(profile: Profile) -> dict[str, str]:
    """The key of everything that is read but for tasks, with its source."""
    named = {
        "model.source": profile.model.source,
        "calibration.source": profile.calibration.source,
        "evaluate.perplexity": profile.evaluate.perplexity,
    }
    for index, step in enumerate(profile.step):
        named |= {f"step.{index}.{key}": getattr(step, key, None) for key in ("data", "perplexity")}
        if isinstance(step, DistillOptions):
            named |= {f"step.{index}.{key}": getattr(step, key) for key in ("teacher", "student")}
    return {key: source for key, source in named.items() if isinstance(source, str)}


def check_there(source: str, key: str) -> None:
    """Raises Unavailable for a file or a folder that is not there."""
    whole, _ = tables.ranged(source)
    path = tables.path_of(whole)
    model = key == "model.source" and path.suffix == ".gguf"
    if not (whole.startswith("file:") or path.is_absolute() or model):
        return  # no path of this machine
    for file in tables.aligned(path).values() or [path]:
        if not file.exists():
            raise Unavailable(f"no such file or folder: {file}", where=key, hint=tables.elsewhere(file))


def at_hand(options: TaskOptions) -> bool:
    """Whether all of a task's rows are in files."""
    named = [source for split in EVERY if (source := getattr(options, split))]
    return all(source.startswith("file:") for source in named)


def tasks(profile: Profile) -> list[str]:
    """Every task that a run will need."""
    names = list(profile.evaluate.tasks)
    for step in profile.step:
        if isinstance(step, JudgedOptions):
            names.append(step.task)
        elif isinstance(step, EvaluateStepOptions):
            names += step.tasks or []
        elif isinstance(step, TrainingOptions) and step.data.startswith(TASK):
            names.append(step.data.removeprefix(TASK))
    return list(dict.fromkeys(names))


def prompt_steps(step: StepOptions) -> list[PromptStepOptions]:
    """Every way in which a step chooses prompts."""
    if isinstance(step, JointOptions):
        return step.prompt_steps
    return [step] if isinstance(step, PromptStepOptions) else []
