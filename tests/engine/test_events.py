"""Events: every kind survives JSON, unknown ones are kept, what is not an event is refused."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(allow_nan=False),
    str: st.text(),
    bool: st.booleans(),
    int | None: st.none() | st.integers(),
    float | None: st.none() | st.floats(allow_nan=False),
    str | None: st.none() | st.text(),
    list[int]: st.lists(st.integers()),
    list[str]: st.lists(st.text()),
    list[float]: st.lists(st.floats(allow_nan=False)),
    dict[str, float]: st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
    dict[str, int]: st.dictionaries(st.text(), st.integers(), max_size=3),
    dict[str, str]: st.dictionaries(st.text(), st.text(), max_size=3),
    dict[str, Any]: st.dictionaries(st.text(), PLAIN, max_size=3),
    list[dict[str, Any]]: st.lists(st.dictionaries(st.text(), PLAIN, max_size=3), max_size=2),
}


def of_kind(cls: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: VALUES[hints[f.name]] for f in dataclasses.fields(cls)})


any_event = st.one_of([of_kind(cls) for cls in ev.KINDS.values()])


@given(any_event)
def test_every_kind_survives_json(event: ev.Event) -> None:
    line = ev.to_json(event)
    assert "\n" not in line
    assert ev.from_json(line) == event
    assert ev.from_json(line.encode()) == event


def test_all_kinds_are_listed_under_their_name() -> None:
    declared = {c for c in ev.Event.__subclasses__() if c is not ev.Unknown}
    assert {(cls.kind, cls) for cls in declared} == set(ev.KINDS.items())


def test_a_line_starts_with_schema_and_kind() -> None:
    record = json.loads(ev.to_json(ev.Log(message="x", seq=3)))
    assert list(record)[:2] == ["schema", "kind"]
    assert record["schema"] == ev.SCHEMA


def test_an_unknown_kind_is_kept_whole() -> None:
    line = '{"schema": 9, "kind": "teleported", "seq": 7, "time": 1.5, "to": "Mars"}'
    event = ev.from_json(line)
    assert isinstance(event, ev.Unknown)
    assert (event.name, event.seq, event.time) == ("teleported", 7, 1.5)
    assert json.loads(ev.to_json(event)) == json.loads(line)


def test_a_new_field_of_a_known_kind_is_ignored_and_a_missing_one_makes_it_unknown() -> None:
    assert ev.from_json('{"kind": "log", "message": "x", "colour": "red"}') == ev.Log(message="x")
    assert isinstance(ev.from_json('{"kind": "log"}'), ev.Unknown)


@pytest.mark.parametrize("line", ["", "{", '{"kind": "log", "mess', "[1, 2]", "3", "null"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        ev.from_json(line)
