"""`pareto`: what it prints of the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine import archive
from engine.archive import Measured

ONE = Measured(
    model="demo", text="demo, 20 windows", run="r1", path="artifacts/model", profile="p", format="onnx_int4",
    steps="quantize gptq", time=1.0, threads=2, bytes=90_000_000, perplexity=22.0, decode=110.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def filled() -> None:
    archive.add(ONE)
    archive.add(
        replace(ONE, run="r2", format="safetensors", steps="prune 0.5", bytes=270_000_000, perplexity=30.0, decode=19.0)
    )
    archive.add(replace(ONE, run="r3", format="sparse", steps="dense", bytes=270_000_000, perplexity=20.6, decode=19.0))


def test_the_front_is_shown_smallest_first(cli: Callable[..., Any]) -> None:
    result = cli("pareto", "demo")
    assert result.code == 0
    lines = result.out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["●", "r1", "onnx_int4"], ["●", "r3", "sparse"]]
    assert result.err.startswith("2 of 3 artifacts, measured on demo, 20 windows")


def test_the_others_are_marked(cli: Callable[..., Any]) -> None:
    lines = cli("pareto", "demo", "--all").out.splitlines()
    assert [line[0] for line in lines[1:]] == ["●", "·", "●"]
    records = [json.loads(line) for line in cli("pareto", "demo", "--all", "--json").out.splitlines()]
    assert {record["run"]: record["dominated"] for record in records} == {"r1": False, "r2": True, "r3": False}


def test_a_model_without_artifacts_is_said_to_have_none(cli: Callable[..., Any]) -> None:
    result = cli("pareto", "demon")
    assert result.code == 3
    assert "no exported artifact" in result.err
    assert "did you mean 'demo'" in result.err
