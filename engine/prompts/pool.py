"""Builds the candidates of a selection: instructions x templates x demonstrations, the plain template first."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

from engine.data.rows import Row, check_template
from engine.data.tasks import Task
from engine.errors import Unavailable, UsageError
from engine.prompts.options import SelectPromptOptions
from engine.prompts.template import Prompt

BASELINE = "plain"


def build(task: Task, options: SelectPromptOptions, seed: int, prefix: str = "") -> list[Prompt]:
    """The baseline and every other combination, without repetitions; `prefix` sets the names of several pools apart."""
    check_templates(task, options.templates)
    templates = [task.template, *options.templates]
    instructions = ["", *options.candidates, *(read_pool(options.pool) if options.pool else [])]
    shots = demonstrations(task, options, seed)
    prompts = [Prompt(prefix + BASELINE, task.template, origin="the task's template")]
    seen = {prompts[0].text()}
    for instruction, template, (origin, rows) in itertools.product(instructions, templates, shots):
        prompt = Prompt(f"{prefix}c{len(prompts):02d}", template, instruction, rows, origin)
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
            draws.append((origin, draw(task, count, random.Random(f"{seed} {count} {number}"))))
    return draws


def draw(task: Task, count: int, generator: random.Random) -> tuple[Row, ...]:
    """`count` training rows, equally many of each class as far as possible, in random order."""
    if count > len(task.train):
        hint = f"the task has {len(task.train)} training rows"
        raise UsageError(f"cannot draw {count} demonstrations", where=f"task {task.name}", hint=hint)
    classes: dict[int, list[Row]] = {}
    for row in generator.sample(task.train, len(task.train)):
        classes.setdefault(row.gold if task.labels else 0, []).append(row)
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
