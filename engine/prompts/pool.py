"""The prompts that a step begins with: the plain one, the one its options name, and the candidates of a selection, which are
instructions x templates x demonstrations.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.data import tables
from engine.data.clean import normalize
from engine.data.options import CleanOptions
from engine.data.rows import Row, check_fields
from engine.data.tasks import EVERY, Task
from engine.errors import Unavailable, UsageError
from engine.prompts.options import ALONE, MORE, SelectPromptOptions, StartedPromptOptions
from engine.prompts.template import Prompt

BASELINE, START = "plain", "start"
AS_IT_READS = CleanOptions(unicode="none")
"""prompts that differ by less are the same: line breaks count, blanks and how many do not"""


def plain(task: Task, prefix: str = "") -> Prompt:
    """The task's own template."""
    return Prompt(prefix + BASELINE, task.template, origin="the task's template", chat=task.chat)


def named_start(task: Task, options: StartedPromptOptions, seed: int) -> Prompt:
    """The prompt that the options name, the plain one where they name none."""
    if not options.names_start:
        return replace(plain(task), name=START)
    rows = shown(task, options.demonstrations, f"{seed} start")
    return Prompt(START, task.template, options.instruction or "", rows, "the step's options", chat=task.chat)


@dataclass(frozen=True)
class Instruction:
    """A text that stands before everything else, and where it came from."""

    text: str = ""
    origin: str = ""


def build(
    task: Task, options: SelectPromptOptions, seed: int, where: str = "step", written: Sequence[Instruction] = ()
) -> list[Prompt]:
    """The baseline and every other combination, without repetitions."""
    return distinct(combinations(task, options, seed, where, written), plain(task))


def distinct(prompts: Iterable[Prompt], first: Prompt, prefix: str = "") -> list[Prompt]:
    """`first` and the others that are no repetitions but for blanks, numbered."""
    out = {_as_it_reads(first): first}
    for prompt in prompts:
        out.setdefault(_as_it_reads(prompt), replace(prompt, name=f"{prefix}c{len(out):02d}"))
    return list(out.values())


def _as_it_reads(prompt: Prompt) -> str:
    """Between marks, which keep the line breaks at its ends."""
    return normalize(f"<{prompt.text().strip(' ')}>", AS_IT_READS)


def combinations(
    task: Task, options: SelectPromptOptions, seed: int, where: str = "step", written: Sequence[Instruction] = ()
) -> list[Prompt]:
    """Instructions x templates x demonstrations, those of the options and the `written` ones, but for the plain prompt.
    `where` is the step's place in the profile.
    """
    for index, text in enumerate(options.templates):
        check_shown(text, task, f"{where}.templates.{index}")
    templates = [(task.template, ""), *((text, f"template {i}") for i, text in enumerate(options.templates, start=1))]
    instructions = [Instruction(), *given(options), *written]
    prompts = []
    for instruction, (template, which), (origin, rows) in itertools.product(
        instructions, templates, demonstrations(task, options, seed)
    ):
        origins = ", ".join(filter(None, (instruction.origin, which, origin)))
        said = instruction.text if instruction.text.strip() else ""
        prompts.append(Prompt("", template, said, rows, origins, chat=task.chat))
    return [prompt for prompt in prompts if not prompt.same(plain(task))]


def given(options: SelectPromptOptions) -> list[Instruction]:
    """The instructions that the options name."""
    lines = read_pool(options.pool) if options.pool else []
    return [Instruction(t, "candidates") for t in options.candidates] + [Instruction(t, "pool file") for t in lines]


def awaited(options: SelectPromptOptions) -> list[Instruction]:
    """Stands for what the model is to write, as long as that may be, where it is counted beforehand."""
    asked = options.rewrites + options.induction
    return [Instruction(" ".join([f"written {number}", *["word"] * options.written_tokens])) for number in range(asked)]


def demonstrations(task: Task, options: SelectPromptOptions, seed: int) -> list[tuple[str, tuple[Row, ...]]]:
    """(origin, rows) of every draw of demonstrations in its orders, classes in turn where the choices are labels."""
    draws: list[tuple[str, tuple[Row, ...]]] = []
    for count in dict.fromkeys(options.demonstrations):
        for number in range(options.demonstration_sets if count else 1):
            origin = f"{count} demonstrations, draw {number}" if count else "no demonstrations"
            rows = shown(task, count, f"{seed} {count} {number}")
            for place, order in enumerate(orders(rows, options.demonstration_orders, f"{seed} {count} {number}")):
                draws.append((f"{origin}, order {place}" if place else origin, order))
    return draws


def orders(rows: tuple[Row, ...], count: int, seed: str) -> list[tuple[Row, ...]]:
    """The rows as they are and in other random orders, `count` in all or as many as there are: on small models the order
    alone decides much (Lu et al. 2022, arXiv 2104.08786).
    """
    generator, places = random.Random(f"{seed} order"), tuple(range(len(rows)))
    found = {places: None}
    while len(found) < min(count, math.factorial(len(rows))):
        found.setdefault(tuple(generator.sample(places, len(places))))
    return [tuple(rows[place] for place in order) for order in found]


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
    path = tables.path_of(source)
    try:
        lines = tables.lines_of(path)
    except Unavailable as error:
        raise Unavailable(f"the prompt pool: {error.message}", where=error.where, hint=error.hint) from error
    pool = [line.strip().replace("\\n", "\n") for line in lines if line.strip()]
    if not pool:
        raise Unavailable("the prompt pool is empty", where=str(path), hint="one instruction a line")
    return pool


def check_several(prompts: Sequence[Prompt], where: str) -> None:
    """Raises UsageError for the plain prompt alone: a look at the test rows would be spent on no choice."""
    if len(prompts) == 1:
        raise UsageError(ALONE, where=f"{where}.candidates", hint=MORE)


def literal(texts: Iterable[str], task: Task) -> list[str]:
    """Warnings of instructions that have a field of the task's rows in braces: it is filled in in templates alone."""
    fields = (task.dev or task.test or task.train)[0].fields
    shown = {text: name for text in texts for name in fields if f"{{{name}}}" in text}
    return [f"{{{name}}} is not filled in in the instruction {text[:60]!r}: fields belong in templates"
            for text, name in shown.items()]  # fmt: skip


def check_shown(template: str, task: Task, where: str) -> None:
    """Raises UsageError for a template with a field that the task's rows do not have, Unavailable for one that some lack."""
    rows = [(f"task {task.name}, {s} row {n}", r) for s in EVERY for n, r in enumerate(getattr(task, s), start=1)]
    places, fields = [place for place, _ in rows], [row.fields for _, row in rows]
    check_fields(template, fields, lambda i: places[i], where)
