"""Adding, removing and moving the steps of a profile's text, with every comment kept."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import AoT, Array, Comment, Item, Table, Whitespace

from engine.errors import UsageError


def names(text: str) -> list[str]:
    """What the steps of a profile are, in order. Raises UsageError for a text whose steps cannot be told apart."""
    return [str(step.get("use", "?")) for step in _steps(_parsed(text))]


def add(text: str, at: int, use: str) -> str:
    """The text with a step of that name, all its keys at their defaults, as step number `at`."""
    document = _parsed(text)
    step = tomlkit.table()
    step.add("use", use)
    step.add(tomlkit.nl())
    return _with(document, [*_steps(document)[:at], step, *_steps(document)[at:]])


def remove(text: str, at: int) -> str:
    """The text without step number `at`; the comments behind its keys are the next table's and stay."""
    document = _parsed(text)
    steps = _steps(document)
    tail = _tail(steps.pop(at))
    if any(isinstance(item, Comment) for item in tail):
        _append(steps[at - 1] if at else _before_steps(document), tail)
    return _with(document, steps)


def move(text: str, at: int, to: int) -> str:
    """The text with step number `at` as step number `to`."""
    document = _parsed(text)
    steps = _steps(document)
    steps.insert(to, steps.pop(at))
    return _with(document, steps)


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except ParseError as error:
        raise UsageError(f"not valid TOML: {error}") from error


def _steps(document: tomlkit.TOMLDocument) -> list[Any]:
    if "step" not in document:
        return []
    steps = document["step"]
    if not isinstance(steps, AoT | Array) or not all(isinstance(step, dict) for step in steps):
        raise UsageError("the steps are no list of tables", where="step", hint="each step begins with [[step]]")
    return list(steps)


def _last_table(item: Any) -> Table | None:
    """The table in which the text of an item ends."""
    while isinstance(item, AoT) or (isinstance(item, Table) and item.value.body):
        inner = item.body[-1] if isinstance(item, AoT) else item.value.body[-1][1]
        if not isinstance(inner, AoT | Table):
            break
        item = inner
    return item if isinstance(item, Table) else None


def _tail(step: Any) -> list[Item]:
    """The comments and blank lines behind the last key of a step, which are written above the table that follows."""
    table = _last_table(step)
    items = [item for _, item in table.value.body] if table is not None else []
    return list(takewhile(lambda item: isinstance(item, Comment | Whitespace), reversed(items)))[::-1]


def _before_steps(document: tomlkit.TOMLDocument) -> Any:
    items = [item for _, item in takewhile(lambda pair: pair[0] is None or pair[0].key != "step", document.body)]
    return items[-1] if items else None


def _append(item: Any, tail: list[Item]) -> None:
    """Puts comments behind an item of the document."""
    table = _last_table(item)
    if table is not None:
        table.value.body.extend((None, one) for one in tail)
    elif isinstance(item, Item) and not isinstance(item, Whitespace):
        item.trivia.trail += "".join(one.as_string() for one in tail)


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
