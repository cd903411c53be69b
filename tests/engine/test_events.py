"""Events: every kind survives JSON, unknown ones are kept, what is not an event is refused, and none breaks a report."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine import report, strictjson
from engine.state import RunState
from tui.narration import Narrator

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MATRIX = st.fixed_dictionaries(
    {"name": st.text(), "block": st.integers(), "shape": st.lists(st.integers()), "parameters": st.integers()},
    optional={"sparsity": st.floats(0, 1)},
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
    list[ev.MatrixInfo]: st.lists(MATRIX, max_size=2),
}


LOADED = {
    "source": "s", "device": "cpu", "dtype": "float32", "architecture": "A", "parameters": 4, "bytes": 16, "threads": 1,
}  # fmt: skip


def of_kind(cls: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: VALUES[hints[f.name]] for f in dataclasses.fields(cls)})


any_event = st.one_of([of_kind(cls) for cls in ev.KINDS.values()])


@given(any_event)
def test_every_kind_survives_json(event: ev.Event) -> None:
    line, fields = ev.to_json(event), dataclasses.asdict(event)
    assert "\n" not in line
    for again in (ev.from_json(line), ev.from_json(line.encode())):
        assert type(again) is type(event)
        assert ev.to_json(again) == line
        if strictjson.defined(fields) == fields:  # what is infinite comes back as undefined
            assert again == event


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


@pytest.mark.parametrize("name", ev.KINDS)
@given(data=st.data())
def test_a_field_of_another_type_makes_a_known_kind_unknown_and_keeps_it_whole(name: str, data: st.DataObject) -> None:
    cls = ev.KINDS[name]
    hints = typing.get_type_hints(cls)
    event = data.draw(of_kind(cls))
    field = data.draw(st.sampled_from([f.name for f in dataclasses.fields(cls)]))
    other: Any = "words" if typing.get_origin(hints[field]) is dict else {"of": [["another type"]]}
    record = json.loads(ev.to_json(event)) | {field: other}
    read = ev.from_json(json.dumps(record))
    assert isinstance(read, ev.Unknown)
    assert (read.name, read.data) == (name, record)
    assert read.seq == (0 if field == "seq" else event.seq)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("log", {"message": "x", "seq": "third"}),
        ("log", {"message": "x", "time": "noon"}),
        ("log", {"message": True}),
        ("progress", {"step": 1.5, "label": "x", "done": 1, "total": 2}),
        ("bits_planned", {"step": 1, "size_ratio": 0.5, "bits": {"a": [4]}}),
        ("model_loaded", {"matrices": [{"name": "a", "block": 0, "shape": [2, 2]}]}),
        ("model_loaded", {"matrices": [{"name": "a", "block": 0, "shape": "2x2", "parameters": 4}]}),
    ],
)
def test_a_change_deep_inside_is_seen(kind: str, fields: dict[str, Any]) -> None:
    whole = LOADED if kind == "model_loaded" else {}
    assert isinstance(ev.from_json(json.dumps({"kind": kind, **whole, **fields})), ev.Unknown)


def test_whole_numbers_are_numbers_and_a_matrix_may_tell_more() -> None:
    assert ev.from_json('{"kind": "run_cancelled", "seconds": 3}') == ev.RunCancelled(seconds=3)
    matrix = {"name": "a", "block": 0, "shape": [2, 2], "parameters": 4, "rank": 2}
    event = ev.from_json(json.dumps({"kind": "model_loaded", **LOADED, "matrices": [matrix]}))
    assert RunState.of([event]).layers["a"].parameters == 4


@given(st.lists(any_event, max_size=20))
def test_no_events_however_odd_break_a_report_or_the_lines(events: list[ev.Event]) -> None:
    state, narrate = RunState(), Narrator("resume")
    for event in events:
        object.__setattr__(event, "seq", 0)
        state.apply(event)
        narrate(event)
    assert report.markdown(state).startswith("# ")
    json.dumps(report.result(state))


@pytest.mark.parametrize("line", ["", "{", '{"kind": "log", "mess', "[1, 2]", "3", "null"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        ev.from_json(line)
