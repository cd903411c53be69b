"""The prompts that a step begins with: the plain one, the one its options name, and the candidates of a selection, which are
instructions x templates x demonstrations.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.data.rows import Row, check_template
from engine.data.tasks import Task
from engine.errors import Unavailable, UsageError
from engine.prompts.options import SelectPromptOptions, StartedPromptOptions
from engine.prompts.template import Prompt

BASELINE, START = "plain", "start"


def plain(task: Task, prefix: str = "") -> Prompt:
    """The task's own template."""
    return Prompt(prefix + BASELINE, task.template, origin="the task's template", chat=task.chat)


def named_start(task: Task, options: StartedPromptOptions, seed: int) -> Prompt:
    """The prompt that the options name, the plain one where they name none."""
    if not options.names_start:
        return replace(plain(task), name=START)
    rows = shown(task, options.demonstrations, f"{seed} start")
    return Prompt(START, task.template, options.instruction or "", rows, "the step's options", chat=task.chat)


def build(task: Task, options: SelectPromptOptions, seed: int, prefix: str = "") -> list[Prompt]:
    """The baseline and every other combination, without repetitions; `prefix` sets the names of several pools apart."""
    check_templates(task, options.templates)
    templates = [task.template, *options.templates]
    instructions = ["", *options.candidates, *(read_pool(options.pool) if options.pool else [])]
    shots = demonstrations(task, options, seed)
    prompts = [plain(task, prefix)]
    seen = {prompts[0].text()}
    for instruction, template, (origin, rows) in itertools.product(instructions, templates, shots):
        prompt = Prompt(f"{prefix}c{len(prompts):02d}", template, instruction, rows, origin, chat=task.chat)
        if prompt.text() not in seen:
            seen.add(prompt.text())
            prompts.append(prompt)
    return prompts


def demonstrations(task: Task, options: SelectPromptOptions, seed: int) -> list[tuple[str, tuple[Row, ...]]]:
    """(origin, rows) of every draw of demonstrations, classes in turn where the choices are labels."""
    draws: list[tuple[str, tuple[Row, ...]]] = []
    for count in dict.fromkeys(options.demonstrations):
        for number in range(options.demonstration_sets if count else 1):
            origin = f"{count} demonstrations, draw {number}" if count else "no demonstrations"
            draws.append((origin, shown(task, count, f"{seed} {count} {number}")))
    return draws


def shown(task: Task, count: int, seed: str) -> tuple[Row, ...]:
    """Demonstrations by seed. Raises UsageError where the task has fewer training rows."""
    if count > len(task.train):
        hint = f"the task has {len(task.train)} training rows"
        raise UsageError(f"cannot draw {count} demonstrations", where=f"task {task.name}", hint=hint)
    return draw(task.train, count, bool(task.labels), random.Random(seed))


def draw(rows: Sequence[Row], count: int, labelled: bool, generator: random.Random) -> tuple[Row, ...]:
    """`count` of the rows, of each class equally many as far as possible where choices are labels, in random order."""
    classes: dict[int, list[Row]] = {}
    for row in generator.sample(rows, len(rows)):
        classes.setdefault(row.gold if labelled else 0, []).append(row)
    in_turn = [row for group in itertools.zip_longest(*classes.values()) for row in group if row is not None]
    return tuple(generator.sample(in_turn[:count], count))


def read_pool(source: str) -> list[str]:
    """Instructions of a `file:` pool, one a line."""
    path = Path(source.removeprefix("file:"))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"cannot read the prompt pool: {error}", where=str(path)) from error
    pool = [line.strip().replace("\\n", "\n") for line in lines if line.strip()]
    if not pool:
        raise Unavailable("the prompt pool is empty", where=str(path), hint="one instruction a line")
    return pool


def check_templates(task: Task, templates: Sequence[str]) -> None:
    """Raises UsageError for a template with a field that the task's rows do not have."""
    row = (task.dev or task.test or task.train)[0]
    for index, template in enumerate(templates):
        check_template(template, row.fields, where=f"step templates.{index}")
