"""`pareto`: what it prints of the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import archive, files
from engine.archive import Measured

ONE = Measured(
    model="demo", text="demo, 20 windows", run="r1", device="cpu", path="artifacts/model", profile="p", format="onnx_int4",
    steps="quantize gptq", time=1.0, threads=2, bytes=90_000_000, perplexity=22.0, decode=110.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def filled(tmp_path: Path) -> None:
    large = replace(ONE, format="sparse", steps="dense", bytes=270_000_000, perplexity=20.6, decode=19.0)
    pruned = replace(large, format="safetensors", steps="prune 0.5", perplexity=30.0)
    for artifact in (ONE, replace(pruned, run="r2"), replace(large, run="r3")):
        artifact = replace(artifact, run=str(tmp_path / artifact.run))
        Path(artifact.run, artifact.path).mkdir(parents=True)
        archive.add(artifact)


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
    assert {Path(record["run"]).name: record["dominated"] for record in records} == {
        "r1": False,
        "r2": True,
        "r3": False,
    }


def test_artifacts_on_another_text_are_counted(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r4" / ONE.path).mkdir(parents=True)
    archive.add(replace(ONE, run=str(tmp_path / "r4"), text="demo, 10 windows", time=0.0))
    result = cli("pareto", "demo")
    assert result.err.startswith("2 of 3 artifacts, measured on demo, 20 windows (1 more measured on other text); ")


def test_a_folder_is_found_by_any_of_its_names(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "llama").mkdir(parents=True)
    (tmp_path / "r4" / ONE.path).mkdir(parents=True)
    archive.add(replace(ONE, run=str(tmp_path / "r4"), model=str(tmp_path / "mine/llama")))
    monkeypatch.chdir(tmp_path / "mine")
    for name in ("llama", "./llama", str(tmp_path / "mine/llama")):
        assert cli("pareto", name).out.splitlines()[1].split()[1] == "r4"


def test_a_model_without_artifacts_is_said_to_have_none(cli: Callable[..., Any]) -> None:
    result = cli("pareto", "demon")
    assert result.code == 3
    assert "no exported artifact" in result.err
    assert "did you mean 'demo'" in result.err


def test_an_archive_that_cannot_be_read_is_said_to_be(cli: Callable[..., Any]) -> None:
    files.archive_file().write_bytes(b"no database " * 100)
    result = cli("pareto", "demo")
    assert result.code == 3
    assert "the archive of artifacts cannot be read" in result.err
    assert "hint: " in result.err
