"""Adding, removing and moving the steps of a profile's text, with every comment kept."""

from __future__ import annotations

from typing import Any

import tomlkit


def names(text: str) -> list[str]:
    """What the steps of a profile are, in order."""
    return [str(step.get("use", "?")) for step in _steps(tomlkit.parse(text))]


def add(text: str, at: int, use: str) -> str:
    """The text with a step of that name, all its keys at their defaults, as step number `at`."""
    document = tomlkit.parse(text)
    step = tomlkit.table()
    step.add("use", use)
    step.add(tomlkit.nl())
    return _with(document, [*_steps(document)[:at], step, *_steps(document)[at:]])


def remove(text: str, at: int) -> str:
    """The text without step number `at`."""
    document = tomlkit.parse(text)
    return _with(document, [step for index, step in enumerate(_steps(document)) if index != at])


def move(text: str, at: int, to: int) -> str:
    """The text with step number `at` as step number `to`."""
    document = tomlkit.parse(text)
    steps = _steps(document)
    steps.insert(to, steps.pop(at))
    return _with(document, steps)


def _steps(document: tomlkit.TOMLDocument) -> list[Any]:
    return list(document.get("step", []))


def _with(document: tomlkit.TOMLDocument, steps: list[Any]) -> str:
    """The document with these steps where its own were, else at its end."""
    kept: Any = tomlkit.aot()
    for step in steps:
        table = tomlkit.table()
        table.update(step)
        kept.append(step if isinstance(step, tomlkit.items.Table) else table)
    if not steps:
        document.remove("step")
    elif "step" in document:
        document["step"] = kept
    else:
        document.add("step", kept)
    return tomlkit.dumps(document)
