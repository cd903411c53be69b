"""What is written for others is JSON for every parser: what is not finite is null, and comes back as no number."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from engine import events as ev
from engine import strictjson


def strictly(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null_at_any_depth() -> None:
    value = {"a": [1.5, math.nan, (math.inf, "é")], "b": {"c": -math.inf}, "d": True}
    assert strictly(strictjson.dumps(value)) == {"a": [1.5, None, [None, "é"]], "b": {"c": None}, "d": True}
    assert strictjson.dumps({"a": "é"}) == '{"a": "é"}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_event_is_strict_and_reads_back_as_itself(value: float) -> None:
    event = ev.CandidateScored(
        step=0, candidate="plain", stage="dense", split="dev", calibration="none", n=1, accuracy=1.0, low=0.2, high=1.0,
        margin=value,
    )  # fmt: skip
    line = ev.to_json(event)
    assert strictly(line)["margin"] is None
    read = ev.from_json(line)
    assert isinstance(read, ev.CandidateScored)
    assert math.isnan(read.margin)
    assert ev.to_json(read) == line


def test_lists_and_tables_of_numbers_read_back_too() -> None:
    metric = ev.Metric(step=0, stage="dense", name="perplexity", value=math.inf, losses=[1.0, math.nan])
    read = ev.from_json(ev.to_json(metric))
    assert isinstance(read, ev.Metric)
    assert math.isnan(read.value)
    assert read.losses[0] == 1.0
    assert math.isnan(read.losses[1])


def test_null_where_no_number_is_declared_is_still_another_type() -> None:
    line = ev.to_json(ev.Log(message="x")).replace('"x"', "null")
    assert isinstance(ev.from_json(line), ev.Unknown)
