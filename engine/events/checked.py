"""Whether what was read from a line has the types that an event declares; a newer version may have changed them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from math import nan
from types import UnionType
from typing import Any, NamedTuple, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from engine.events.base import Event

PLAIN: dict[Any, frozenset[type]] = {
    int: frozenset({int}),
    float: frozenset({float, int}),
    str: frozenset({str}),
    bool: frozenset({bool}),
    type(None): frozenset({type(None)}),
}
"""the types of JSON that each stands for; true is no number"""


class Field(NamedTuple):
    """A field's name, its declared type, and the types of JSON that need no second look."""

    name: str
    declared: Any
    plain: frozenset[type]


def values_of(cls: Callable[..., Event], record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of `cls` that a record has, None where one is of another type."""
    values = {}
    for name, declared, plain in _fields(cls):
        if name in record:
            value = record[name]
            if type(value) not in plain and not _fits(value, declared):
                value = _counted(value, declared)
                if not _fits(value, declared):
                    return None
            values[name] = value
    return values


def _counted(value: Any, declared: Any) -> Any:
    """The value with nan for every null where a number is declared: it was written for one that is not finite."""
    inner = get_args(declared)
    if value is None and declared is float:
        return nan
    if is_typeddict(declared) and isinstance(value, dict):
        kinds = {name: kind for name, kind, _ in _named(declared)}
        return {name: _counted(one, kinds.get(name)) for name, one in value.items()}
    if get_origin(declared) is list and isinstance(value, list):
        return [_counted(one, inner[0]) for one in value]
    if get_origin(declared) is dict and isinstance(value, dict):
        return {name: _counted(one, inner[1]) for name, one in value.items()}
    return value


@cache
def _fields(cls: Any) -> tuple[Field, ...]:
    hints = get_type_hints(cls)
    return tuple(Field(f.name, hints[f.name], _plain(hints[f.name])) for f in dataclasses.fields(cls))


def _plain(declared: Any) -> frozenset[type]:
    return frozenset().union(*(PLAIN.get(one, ()) for one in (declared, *_choices(declared))))


def _choices(declared: Any) -> tuple[Any, ...]:
    return get_args(declared) if get_origin(declared) is UnionType else ()


def _fits(value: Any, declared: Any) -> bool:
    if declared in PLAIN:
        return type(value) in PLAIN[declared]
    if declared is Any:
        return True
    if is_typeddict(declared):
        return isinstance(value, dict) and _fits_named(value, declared)
    inner = get_args(declared)
    if get_origin(declared) is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if get_origin(declared) is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    return any(_fits(value, one) for one in _choices(declared))


def _fits_named(value: dict[str, Any], declared: Any) -> bool:
    return all(_fits(value[n], kind) if n in value else not required for n, kind, required in _named(declared))


@cache
def _named(declared: Any) -> list[tuple[str, Any, bool]]:
    """The names of a TypedDict, the type of each and whether it must be there."""
    hints = get_type_hints(declared, include_extras=True)
    plain = get_type_hints(declared)
    return [(name, plain[name], get_origin(kind) is not NotRequired) for name, kind in hints.items()]
