"""Inputs rounded while the model runs: as compressed-tensors rounds them, in memory, after resume, streamed; gradients pass."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from fixtures.killing import Killed, die_when, nth
from fixtures.models import TEXT, save, subject
from fixtures.workspaces import ON_FOLDER, logits, workspace
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine import events as ev
from engine import foreseen, model, preflight, runs
from engine import profile as profiles
from engine.calibration import Walk
from engine.errors import ProfileError, UsageError
from engine.profile import ModelOptions
from engine.pruning.options import PruneOptions
from engine.quantization import inputs, step
from engine.quantization.options import QuantizeOptions
from engine.registry import METHODS
from engine.weights import weights_hash
from engine.worker import execute

TOKEN = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
PROFILE = (
    ON_FOLDER
    + """samples = 4
length = 48
compute = "float32"
[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 2
length = 48
speed = false
[[step]]
use = "prune"
criterion = "magnitude"
[[step]]
use = "quantize"
method = "rtn"
bits = 8
group = 0
symmetric = true
activations = "{activations}"
[[step]]
use = "export"
format = "compressed_tensors"
"""
)


def options(method: str = "rtn", **changes: Any) -> QuantizeOptions:
    given_ = {"bits": 8, "group": 0, "symmetric": True, "activations": "dynamic"} | changes
    return QuantizeOptions.model_validate({"use": "quantize", "method": method, **given_})


@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.bfloat16]), st.floats(1e-3, 1e3))
def test_inputs_are_rounded_as_the_library_rounds_them(seed: int, dtype: torch.dtype, size: float) -> None:
    x = (torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)
    x[0, 1] = 0
    scale, zero = compute_dynamic_scales_and_zp(x, TOKEN, nn.Identity())
    assert torch.equal(inputs.rounded(x), fake_quantize(x, scale, zero, TOKEN))
    assert torch.equal(inputs.rounded(x[0]), inputs.rounded(x)[0]), "a token's scale is its own in every shape"


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    x = torch.randn(3, 16, requires_grad=True)
    inputs.rounded(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(3, 16))


@pytest.mark.parametrize("method", METHODS.names())
def test_the_model_in_memory_rounds_the_inputs_of_its_quantized_layers(method: str, tmp_path: Path) -> None:
    plain, mine = subject("llama"), subject("llama")
    step.run(workspace(tmp_path / "plain", plain), options(method, activations="none"))
    step.run(workspace(tmp_path / "run", mine), options(method))
    for (name, one), (_, other) in zip(plain.tensors(), mine.tensors(), strict=True):
        assert torch.equal(one, other), name
    expected = copy.deepcopy(plain)
    for name, layer in expected.module.named_modules():
        if isinstance(layer, nn.Linear) and name != "lm_head":
            layer.register_forward_pre_hook(lambda layer, args: (inputs.rounded(args[0]),))
    assert torch.equal(logits(mine), logits(expected))
    assert not torch.equal(logits(mine), logits(plain))
    assert weights_hash(mine.module) != weights_hash(plain.module), "caches tell them apart"


def run(folder: Path, activations: str = "dynamic", number: int = 0) -> runs.Run:
    if not (folder / "model").is_dir():
        save("llama", folder / "model")
        (folder / "text.txt").write_text(TEXT)
    text = PROFILE.format(folder=folder, dtype="float32", activations=activations)
    return runs.create("tiny", text, folder / f"run-{activations}-{number}")


def perplexity(run_: runs.Run, stage: str) -> float:
    found = [event for event in run_.events() if isinstance(event, ev.Metric) and event.name == "perplexity"]
    return next(event.value for event in found if event.stage == stage)


def test_perplexity_shows_the_cost_in_memory_in_the_file_and_after_resume(tmp_path: Path) -> None:
    whole, plain, broken = run(tmp_path), run(tmp_path, "none"), run(tmp_path, number=1)
    assert execute(whole) == 0
    assert execute(plain) == 0
    with pytest.raises(Killed):
        execute(broken, also=die_when(nth(ev.ArtifactWritten, 1)))
    assert execute(broken) == 0
    shown = perplexity(whole, "quantized")
    assert shown != perplexity(plain, "quantized")
    assert perplexity(whole, "exported") == pytest.approx(shown, rel=1e-5)
    assert perplexity(broken, "exported") == pytest.approx(shown, rel=1e-5)


def test_a_streamed_model_rounds_them_too(tmp_path: Path) -> None:
    save("llama", tmp_path / "llama")
    found = {}
    for memory in ("resident", "stream"):
        about = ModelOptions(source=str(tmp_path / "llama"), device="cpu", dtype="float32", memory=memory)
        mine = model.load(about)
        at = workspace(tmp_path / memory, mine)
        step.run(at, options())
        walk = Walk.over(at)
        with walk.context():
            hidden, calls = walk.enter()
            for index in range(walk.blocks()):
                hidden = walk.forward(index, calls[index], hidden)
        found[memory] = hidden[0]
        assert all(inputs.rounds(inputs.owner(mine.module, matrix.name)) for matrix in walk.matrices)
    assert torch.equal(found["resident"], found["stream"])


@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_matrices_without_a_linear_layer_are_refused_before_anything_is_changed(name: str, tmp_path: Path) -> None:
    mine = subject(name)
    before = weights_hash(mine.module)
    with pytest.raises(UsageError, match="Linear layers only") as error:
        step.run(workspace(tmp_path / "run", mine), options())
    assert 'activations = "none"' in str(error.value.hint)
    assert weights_hash(mine.module) == before


@pytest.mark.parametrize("wrong", [{"bits": 4}, {"group": 32}, {"symmetric": False}], ids=str)
def test_what_no_file_could_hold_is_refused_in_the_profile(wrong: dict[str, Any]) -> None:
    values = {"bits": 8, "group": 0, "symmetric": True, "activations": "dynamic"} | wrong
    step_ = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    text = f'name = "x"\n[model]\nsource = "demo"\n[[step]]\nuse = "quantize"\n{step_}\n'
    with pytest.raises(ProfileError) as error:
        profiles.parse(text, "x")
    [problem] = error.value.problems
    assert (problem.key, problem.hint) == (
        "step.0.activations",
        "bits = 8, group = 0, symmetric = true, without size_ratio",
    )


def test_a_step_that_changes_weights_afterwards_is_refused_first(tmp_path: Path) -> None:
    space = workspace(tmp_path / "run", subject("llama"))
    for activations in ("none", "dynamic"):
        steps = [options(activations=activations), PruneOptions(use="prune")]
        space.profile = space.profile.model_copy(update={"step": steps})
        foreseen_ = foreseen.steps(space, Walk.over(space).matrices)
        if activations == "none":
            preflight.check_quantizing(foreseen_)
            continue
        with pytest.raises(UsageError, match="inputs step 1 rounds") as error:
            preflight.check_quantizing(foreseen_)
        assert error.value.where == "step.1.use"
