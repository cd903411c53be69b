"""The quantize step: codes and weights agree, zeros stay, resume gives the same, what cannot be is refused first."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, die_when, nth
from fixtures.models import TEXT, save, subject
from fixtures.workspaces import logits, workspace
from safetensors.torch import load_file

from engine import events as ev
from engine import runs
from engine.errors import UsageError
from engine.quantization import step
from engine.quantization.grid import Codes
from engine.quantization.options import QuantizeOptions
from engine.registry import METHODS
from engine.runs import Run
from engine.worker import execute

PROFILE = """
name = "tiny"
threads = 1
[model]
source = "{model}"
device = "cpu"
dtype = "float32"
memory = "{memory}"
[calibration]
source = "file:{folder}/text.txt"
samples = 8
length = 48
compute = "float32"
[evaluate]
perplexity = "none"
speed = false
[[step]]
use = "prune"
criterion = "magnitude"
[[step]]
use = "quantize"
method = "{method}"
bits = 4
statistics = "{statistics}"
[[step]]
use = "export"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save("llama", folder / "llama")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Run]:
    number = iter(range(100))

    def create(model: str = "llama", **changes: Any) -> Run:
        values = {"method": "gptq", "memory": "resident", "statistics": "sequential"} | changes
        text = PROFILE.format(folder=data, model=data / model, **values)
        return runs.create("tiny", text, tmp_path / f"run-{next(number)}")

    return create


def exported(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.artifacts / "model" / "model.safetensors")


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
def test_the_model_holds_what_the_codes_mean(architecture: str, method: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    told: list[ev.Event] = []
    at = workspace(tmp_path / "run", mine, told=told)
    summary = step.run(at, QuantizeOptions(use="quantize", method=method))
    walk = step.Walk.over(at)
    assert mine.quantized is not None
    assert set(mine.quantized.formats) == {matrix.name for matrix in walk.matrices}
    for matrix in walk.matrices:
        assert torch.equal(mine.quantized.current(matrix.name, matrix.weight).values(), matrix.weight)
    events = [event for event in told if isinstance(event, ev.LayerQuantized)]
    assert [event.done for event in events] == list(range(1, len(walk.matrices) + 1))
    assert all(at.state.layers[event.layer].bits == 4 for event in events)
    assert summary["bits_a_weight"] == 4.625
    assert 1e-5 < summary["mean_error"] < 0.1
    assert summary["matrices"] == len(events)


@pytest.mark.parametrize("method", METHODS.names())
def test_eight_bits_answer_nearly_as_the_dense_model_does(method: str, tmp_path: Path) -> None:
    mine = subject("llama")
    before = logits(mine)
    step.run(workspace(tmp_path / "run", mine), QuantizeOptions(use="quantize", method=method, bits=8))
    after = logits(mine)
    assert not torch.equal(after, before)
    assert (after - before).norm() < 0.02 * before.norm()


def test_groups_that_do_not_fit_are_refused_before_anything_is_changed(tmp_path: Path) -> None:
    mine = subject("llama")
    before = {name: value.clone() for name, value in mine.module.state_dict().items()}
    with pytest.raises(UsageError, match="groups of 64 do not fit"):
        step.run(workspace(tmp_path / "run", mine), QuantizeOptions(use="quantize", group=64))
    assert all(torch.equal(value, before[name]) for name, value in mine.module.state_dict().items())


def test_codes_of_a_weight_that_was_changed_since_are_refused(tmp_path: Path) -> None:
    mine = subject("llama")
    at = workspace(tmp_path / "run", mine)
    step.run(at, QuantizeOptions(use="quantize", method="rtn"))
    matrix = step.Walk.over(at).matrices[0]
    matrix.weight[0, 0] += 1
    assert mine.quantized is not None
    with pytest.raises(UsageError, match="changed after it was quantized"):
        mine.quantized.current(matrix.name, matrix.weight)


@pytest.mark.parametrize("method", METHODS.names())
def test_what_pruning_removed_stays_removed(method: str, begin: Callable[..., Run]) -> None:
    run = begin(method=method)
    assert execute(run) == 0
    pruned = {}
    for file in run.checkpoints.glob("step-0-block-*.safetensors"):
        pruned |= load_file(file)
    final = exported(run)
    assert len(pruned) == 14
    for name, weight in pruned.items():
        assert int((weight == 0).sum()) == weight.numel() // 2
        assert (final[name][weight == 0] == 0).all()
        assert not torch.equal(final[name], weight)


def off_by_a_code(codes: Codes) -> Codes:
    return replace(codes, codes_OI=codes.codes_OI ^ 1)


def without_a_scale(codes: Codes) -> Codes:
    return replace(codes, grid=replace(codes.grid, scale_OG=codes.grid.scale_OG * torch.nan))


@pytest.mark.parametrize(
    ("wrong", "words", "hint"),
    [
        (off_by_a_code, r"^\d+ zeros did not stay zero$", None),
        (without_a_scale, "produced NaN or infinite weights", "raise the damping"),
    ],
)
def test_a_method_that_breaks_what_pruning_left_ends_the_run(
    wrong: Callable[[Codes], Codes],
    words: str,
    hint: str | None,
    begin: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = METHODS.load("rtn")
    broken = replace(module.METHOD, quantize=lambda *given: wrong(module.quantize(*given)))
    monkeypatch.setattr(module, "METHOD", broken)
    run = begin(method="rtn")
    assert execute(run) == 1
    failure = run.state().failure
    assert failure is not None
    assert re.search(words, failure.message)
    assert (failure.where, failure.hint) == ("model.layers.0.self_attn.q_proj.weight", hint)
    assert not list(run.checkpoints.glob("step-1-*.safetensors")), "no weights of it are kept"


@pytest.mark.parametrize("statistics", ["sequential", "dense"])
@pytest.mark.parametrize("at", [1, 9])
@pytest.mark.parametrize("method", METHODS.names())
def test_a_killed_run_goes_on_to_the_same_weights(
    method: str, at: int, statistics: str, begin: Callable[..., Run]
) -> None:
    whole, broken = begin(method=method, statistics=statistics), begin(method=method, statistics=statistics)
    assert execute(whole) == 0
    with pytest.raises(Killed):
        execute(broken, also=die_when(nth(ev.LayerQuantized, at)))
    assert execute(broken) == 0
    assert execute(broken) == 0, "and once more from the finished step"
    for name, weight in exported(whole).items():
        assert torch.equal(exported(broken)[name], weight), name


@pytest.mark.parametrize("method", METHODS.names())
def test_a_streamed_model_comes_out_the_same(method: str, begin: Callable[..., Run]) -> None:
    resident, streamed = begin(method=method), begin(method=method, memory="stream")
    assert execute(resident) == 0
    assert execute(streamed) == 0
    for name, weight in exported(resident).items():
        assert torch.equal(exported(streamed)[name], weight), name
