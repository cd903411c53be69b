"""How a command line may go on: commands, keys of a step, values of a key, each with a line of help.

Everything comes from the options models and the registry: nothing is listed here a second time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from engine.registry import CRITERIA, FAMILIES, STEPS, TASKS
from tui import grammar, recent

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

LISTED = re.compile(r"compress-tui list (\w+)")


def complete(line: str) -> dict[str, str]:
    """The words that the last word of `line` may become, each with its help; in order."""
    start, word = _last(line)
    words = start.split()
    if ">" in words:
        words = words[len(words) - words[::-1].index(">") :]
        known = {name: _step_help(name) for name in STEPS} if not words else _arguments(words[0], word)
    else:
        known = _arguments(words[0], word) if words else _commands()
    return {name: text for name, text in known.items() if name.startswith(word) and name != word}


def completed(line: str, choice: str) -> str:
    """The line with its last word replaced; a blank follows what is whole."""
    return f"{_last(line)[0]}{choice}" + ("" if choice.endswith("=") else " ")


def _last(line: str) -> tuple[str, str]:
    """The line up to its last word, and that word ("" after a blank)."""
    at = max(line.rfind(" "), line.rfind("\t")) + 1
    return line[:at], line[at:]


def _commands() -> dict[str, str]:
    steps = {name: _step_help(name) for name in (*STEPS, *grammar.ALIASES)}
    return {**steps, **grammar.OTHER}


def _step_help(name: str) -> str:
    return STEPS[grammar.ALIASES.get(name, name)].summary()


def _arguments(command: str, word: str) -> dict[str, str]:
    if command in STEPS or command in grammar.ALIASES:
        return _of_step(grammar.ALIASES.get(command, command), word)
    places: Mapping[str, Callable[[], dict[str, str]]] = {
        "run": _profiles,
        "queue": _profiles,
        "model": _models,
        "attach": _runs,
        "report": _runs,
        "compare": _runs,
        "help": _commands,
    }
    return places[command]() if command in places else {}


def _of_step(use: str, word: str) -> dict[str, str]:
    """The keys of a step, or the values of the key that is being typed; of its first key, also without the key."""
    key, equals, _ = word.partition("=")
    fields = grammar.options_of(use).model_fields
    if equals:
        return {f"{key}={value}": text for value, text in choices(fields, key).items()}
    keys = {f"{name}=": " ".join((field.description or "").split()) for name, field in fields.items() if name != "use"}
    return {**choices(fields, grammar.FIRST.get(use, "")), **keys}


def choices(fields: Mapping[str, FieldInfo], key: str) -> dict[str, str]:
    """What a key of an options model may be, where that is a list of names."""
    field = fields.get(key)
    if field is None:
        return {}
    if key in ("task", "tasks"):
        return {name: TASKS.summary(name) for name in TASKS.names()}
    listed = LISTED.search(field.description or "")
    family = FAMILIES.get(listed[1]) if listed else CRITERIA if key in ("criterion", "proxy") else None
    if family is not None:
        return {name: family.summary(name) for name in family.names()}
    return dict.fromkeys(_literals(field.annotation), "")


def _literals(annotation: object) -> Iterable[str]:
    if annotation is bool:
        return ("true", "false")
    if get_origin(annotation) is Literal:
        return map(str, get_args(annotation))
    return ()


def _profiles() -> dict[str, str]:
    from engine import profile

    return {file.stem: str(file.path) for file in profile.shipped()}


def _models() -> dict[str, str]:
    return dict.fromkeys([*reversed(recent.read(recent.MODELS)), "demo", "last"], "")


def _runs() -> dict[str, str]:
    from engine import runs

    return {"last": "the newest run", **{run.name: "" for run in runs.list_runs()[:20]}}
