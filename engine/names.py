"""Names in a profile that stand for something known beforehand: texts, models and tasks. Those of pieces are the options' own.

A profile is looked at as it was read, so that a wrong name is told beside everything else that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from engine.errors import Problem, UsageError, did_you_mean
from engine.registry import STEPS, TASKS
from engine.sources import OWN, check_model, check_text
from engine.training.options import EVERY_SECOND, TASK

Check = Callable[[str], None]


def unknown(raw: Any) -> list[Problem]:
    """Every name that nothing here stands for; values of another type than a name's are left to the options."""
    found = []
    for key, name, check in _named(raw if isinstance(raw, dict) else {}):
        try:
            check(name)
        except UsageError as error:
            found.append(Problem(key, error.message, error.hint))
    return found


def _named(raw: Mapping[str, Any]) -> Iterator[tuple[str, str, Check]]:
    """(key, name, who knows it) of every name."""
    own = raw.get("task")
    task = partial(_check_task, known=[*TASKS.names(), *(own if isinstance(own, dict) else ())])
    text = partial(check_text, more=("none",))
    sections: dict[str, dict[str, Check]] = {
        "model": {"source": check_model},
        "calibration": {"source": partial(check_text, more=OWN)},
        "evaluate": {"perplexity": text, "tasks": task},
    }
    of_steps: dict[str, Check] = {
        "task": task,
        "tasks": task,
        "perplexity": text,
        "data": partial(_check_data, task=task),
        "teacher": partial(check_model, more=("dense",)),
        "student": partial(check_model, more=("model", EVERY_SECOND)),
    }
    for name, checks in sections.items():
        yield from _in_table(name, raw.get(name), checks)
    steps = raw.get("step")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        use = step.get("use") if isinstance(step, dict) else None
        if isinstance(use, str) and use in STEPS:
            fields = STEPS[use].options_model().model_fields
            yield from _in_table(f"step.{index}", step, {key: of_steps[key] for key in of_steps if key in fields})


def _in_table(where: str, table: Any, checks: Mapping[str, Check]) -> Iterator[tuple[str, str, Check]]:
    for key, check in checks.items() if isinstance(table, dict) else ():
        value = table.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str):
                yield f"{where}.{key}", name, check


def _check_task(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UsageError(f"unknown task {name!r}", hint=did_you_mean(name, known))


def _check_data(data: str, task: Check) -> None:
    """What a training learns from: the run's calibration data, a task's rows or a text."""
    if data.startswith(TASK):
        task(data.removeprefix(TASK))
    else:
        check_text(data, ("calibration", f"{TASK}NAME"))
