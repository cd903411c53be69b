"""What verification compares: weights bit for bit, zeros, and figures of the file against those of memory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine import events as ev
from engine.errors import EngineError
from engine.export import verify
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.export.verify import compare, compared
from engine.subject import DTYPES


def measured(memory: float, file: float, name: str = "perplexity") -> Any:
    """A workspace in which both were measured."""
    metrics = {
        stage: {name: ev.Metric(step=0, stage=stage, name=name, value=value)}
        for stage, value in (("pruned", memory), ("exported", file))
    }
    return SimpleNamespace(stage="pruned", state=SimpleNamespace(metrics=metrics))


def test_identical_means_every_bit() -> None:
    one, other = subject("llama"), subject("llama")
    assert compared(one, other).identical
    other.module.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    assert not compared(one, other).identical
    assert not compared(one, subject("llama", num_hidden_layers=1)).identical


def test_zeros_are_counted() -> None:
    model, other = subject("llama"), subject("llama")
    before = compared(model, other)
    assert before.zeros == before.other_zeros
    model.module.model.layers[0].mlp.up_proj.weight[:5] = 0
    assert compared(model, other).zeros == before.zeros + 5 * 32
    assert compared(other, model).other_zeros == before.zeros + 5 * 32


@pytest.mark.parametrize("holds", [True, False])
def test_a_file_that_lost_zeros_fails_unless_its_format_holds_none(holds: bool, tmp_path: Path) -> None:
    pruned = subject("llama")
    pruned.module.model.layers[0].mlp.up_proj.weight[:5] = 0
    space = workspace(tmp_path / "run", pruned)
    quiet = space.profile.evaluate.model_copy(update={"perplexity": "none", "speed": False})
    options = ExportOptions(use="export")
    space.profile = space.profile.model_copy(update={"evaluate": quiet, "step": [options]})
    form = ExportFormat(write=lambda *_: None, read=lambda *_: subject("llama"), zeros=holds)
    if not holds:
        assert not verify.verify(space, form, tmp_path / "model", options, "float32")["identical"]
        return
    with pytest.raises(EngineError, match="^160 zeros were lost in the file$") as error:
        verify.verify(space, form, tmp_path / "model", options, "float32")
    assert (error.value.where, error.value.exit_code) == (str(tmp_path / "model"), 1)


def test_both_models_are_read_once() -> None:
    reads = []
    models = [subject("llama"), subject("llama")]
    for model in models:
        plain = model.tensors
        model.tensors = lambda plain=plain: reads.append(1) or plain()
    compared(*models)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("memory", "file", "change"), [(20.0, 20.0, 0.0), (20.0, 20.1, 0.005), (math.inf, math.inf, 0.0), (0.0, 0.0, 0.0)]
)
def test_figures_within_the_tolerance_pass(memory: float, file: float, change: float) -> None:
    for name in ("perplexity", "accuracy:features"):
        assert compare(measured(memory, file, name), "exported", 0.01, Path("m")) == {
            f"{name}_change": pytest.approx(change)
        }


@pytest.mark.parametrize(("memory", "file"), [(20.0, 20.3), (20.0, 19.7), (0.0, 0.5), (20.0, math.inf)])
def test_figures_beyond_it_fail(memory: float, file: float) -> None:
    with pytest.raises(EngineError, match="after reload and was"):
        compare(measured(memory, file), "exported", 0.01, Path("m"))


@pytest.mark.parametrize("file", [math.inf, math.nan])
def test_a_file_that_answers_nothing_fails_under_any_tolerance(file: float) -> None:
    with pytest.raises(EngineError, match="after reload and was"):
        compare(measured(20.0, file), "exported", math.inf, Path("m"))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-3), ("bfloat16", 0.02)])
def test_a_float_file_with_other_answers_fails(dtype: str, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However near its perplexity is; codes round."""
    workspace, options = measured(20.0, 20.1), ExportOptions(use="export", format="onnx_fp32")
    workspace.subject = SimpleNamespace(dtype=DTYPES[dtype])
    workspace.profile = SimpleNamespace(step=[options])
    form = ExportFormat(write=lambda *_: None, read=None, divergence=1e-3)
    for found in (0.0, most * 0.9, most * 1.1, math.nan):
        monkeypatch.setattr(verify.measured, "measure", lambda *_, found=found: {"divergence": found})
        if found <= most:
            out = verify.verify(workspace, form, Path("m"), options, "float32")
            assert out["divergence"] == found
            continue
        with pytest.raises(EngineError, match="nats a token from those in memory") as error:
            verify.verify(workspace, form, Path("m"), options, "float32")
        assert error.value.hint
        verify.verify(workspace, replace(form, divergence=None), Path("m"), options, "float32")


def test_what_was_not_measured_is_not_compared() -> None:
    workspace = SimpleNamespace(stage="pruned", state=SimpleNamespace(metrics={"exported": {}}))
    assert compare(workspace, "exported", 0.01, Path("m")) == {}
