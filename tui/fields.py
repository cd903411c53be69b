"""The fields of a profile: key, value, what it may be, what it means; made from the options models and from the text.

A text with mistakes has fields too, as long as it is TOML. What is wrong with a value is the profile's own checker's to say.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

import tomli
import tomlkit

from engine.registry import STEPS
from tui import completion

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

HEADING = re.compile(r"\s*\[+([^\]]+)\]+")
KEY = re.compile(r"\s*([\w.-]+)\s*=")
WORDS = (("bool", "true or false"), ("int", "a whole number"), ("float", "a number"), ("str", "text"))
BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
LATE = ("calibration", "evaluate", "task", "gate")
"""tables that come after the steps"""


@dataclass(frozen=True)
class ProfileField:
    """One key of a profile: its dotted path, its value as it is typed, whether the text sets it, and words on it."""

    key: str
    value: str
    given: bool
    kind: str
    help: str


@functools.lru_cache(64)
def of(text: str) -> tuple[ProfileField, ...]:
    """The fields of a profile's text, the steps before the other tables; none of a text that is no TOML."""
    from engine.profile import Profile

    try:
        raw = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return ()
    return tuple(sorted(_table(Profile, raw, ""), key=lambda field: field.key.partition(".")[0] in LATE))


def line_of(text: str, key: str) -> int | None:
    """The line of a profile's text in which a key stands, or its table begins; None where neither is there."""
    found, table, steps = None, "", 0
    for number, line in enumerate(text.splitlines()):
        if heading := HEADING.match(line):
            steps += line.lstrip().startswith("[[step]]")
            table = re.sub(r"^step(?=\.|$)", f"step.{steps - 1}", heading[1].strip()) + "."
            found = number if f"{key}.".startswith(table) else found
        elif (name := KEY.match(line)) and f"{table}{name[1]}" == key:
            return number
    return found


def typed(value: Any) -> str:
    """A value as a change may name it: TOML, or a bare word for a text that means nothing else."""
    if value is None:
        return ""
    if isinstance(value, str) and _means(value) == value == value.strip() and value.isprintable():
        return value
    item: Any = tomlkit.inline_table() if isinstance(value, dict) else tomlkit.item(value)
    if isinstance(value, dict):
        item.update(value)
    return str(item.as_string())


def _means(word: str) -> Any:
    try:
        return tomli.loads(f"value = {word}")["value"]
    except tomli.TOMLDecodeError:
        return word


def _table(model: Any, raw: Any, prefix: str) -> Iterator[ProfileField]:
    """The fields of an options model with the values of a table of the text."""
    values = raw if isinstance(raw, dict) else {}
    for name, info in model.model_fields.items():
        key, value, inner = f"{prefix}{name}", values.get(name), _model(info.annotation)
        if key == "step":
            yield from _steps(value)
        elif get_origin(info.annotation) is dict and inner:
            for entry, table in value.items() if isinstance(value, dict) else ():
                yield from _table(inner, table, f"{key}.{entry}.")
        elif inner and (value is not None or info.annotation is inner):
            yield from _table(inner, value, f"{key}.")
        elif not (prefix.startswith("step.") and name == "use"):
            yield _field(model.model_fields, name, key, values)


def _steps(raw: Any) -> Iterator[ProfileField]:
    steps = raw if isinstance(raw, list) else []
    for index, step in enumerate(step for step in steps if isinstance(step, dict)):
        use = str(step.get("use", ""))
        model = STEPS[use].options_model() if use in STEPS else None
        about = " ".join((model.__doc__ or "").split()) if model else ""
        yield ProfileField(f"step.{index}.use", use, True, f"one of {', '.join(STEPS)}", about)
        if model:
            yield from _table(model, step, f"step.{index}.")


def _field(fields: Mapping[str, FieldInfo], name: str, key: str, values: Mapping[str, Any]) -> ProfileField:
    info = fields[name]
    default, given = _default(info), name in values
    kind = _kind(fields, name)
    if not given or typed(default) != typed(values[name]):
        kind += f" · default {typed(default)}" if typed(default) else " · required" if info.is_required() else ""
    help_text = " ".join((info.description or "").split())
    return ProfileField(key, typed(values[name] if given else default), given, kind, help_text)


def _default(info: FieldInfo) -> Any:
    """The default of a key, None where it has to be given."""
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _kind(fields: Mapping[str, FieldInfo], name: str) -> str:
    """What a value may be, in words."""
    info, names = fields[name], completion.choices(fields, name)
    text = str(info.annotation)
    if names:
        others = typed(_default(info)) not in ("", *names)
        said = "a list of" if "list[" in text else "such as" if others else "one of"
        return f"{said} {', '.join(names)}"
    words = " or ".join(said for kind, said in WORDS if kind in text) or "a value"
    if "list[" in text or get_origin(info.annotation) is dict:
        return f"{'a list' if 'list[' in text else 'a table'} of {words}"
    bounds = [
        f"{said} {bound:g}"
        for part in info.metadata
        for kind, said in BOUNDS
        if isinstance(bound := getattr(part, kind, None), int | float)
    ]
    return ", ".join([words, *bounds])


def _model(annotation: Any) -> Any:
    """The options model in an annotation, None where there is none."""
    from pydantic import BaseModel

    inner = (annotation, *get_args(annotation))
    return next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), None)
