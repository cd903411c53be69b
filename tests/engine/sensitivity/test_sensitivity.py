"""The sensitivity step: what was planted in a model is what it finds, and nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine import events as ev
from engine.calibration import Walk
from engine.pruning.quadratic import energy, gram_error
from engine.sensitivity import measure, step
from engine.sensitivity.options import SensitivityOptions
from engine.subject import Subject

DEAD, CRITICAL, GROUP = 1, 2, 1


def planted() -> Subject:
    """Four blocks: one writes nothing to the stream; in another one head group writes far more than all others."""
    mine = subject("llama", num_hidden_layers=4)
    blocks = mine.blocks()
    width = 32 // 2
    with torch.no_grad():
        for name, parameter in blocks[DEAD].named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        output = dict(blocks[CRITICAL].named_parameters())["self_attn.o_proj.weight"]
        output[:, GROUP * width : (GROUP + 1) * width] *= 30
    return mine


def run(mine: Subject, folder: Path, **options: object) -> tuple[list[ev.LayerSensitivity], dict[str, object], Path]:
    told: list[ev.Event] = []
    space = workspace(folder, mine, told=told)
    summary = step.run(space, SensitivityOptions(use="sensitivity", **options))
    (written,) = [event for event in told if isinstance(event, ev.ArtifactWritten)]
    return [event for event in told if isinstance(event, ev.LayerSensitivity)], summary, space.run.path / written.path


@pytest.mark.parametrize("unit", ["block", "matrix"])
def test_a_dead_layer_is_last_and_a_critical_head_first(unit: str, tmp_path: Path) -> None:
    layers, summary, _ = run(planted(), tmp_path / "run", unit=unit)
    by_loss = sorted(layers, key=lambda layer: layer.loss or 0.0)
    dead = {layer.layer for layer in layers if layer.block == DEAD}
    count = len(dead)
    assert {layer.layer for layer in by_loss[:count]} == dead
    assert all(abs(layer.loss or 0.0) < 1e-6 for layer in layers if layer.block == DEAD)
    heads = {(layer.block, i): loss for layer in layers for i, loss in enumerate(layer.heads)}
    assert len(heads) == 4 * 2
    assert max(heads, key=heads.__getitem__) == (CRITICAL, GROUP)
    assert {block for block, _ in sorted(heads, key=heads.__getitem__)[:2]} == {DEAD}
    assert str(summary["critical_head"]).endswith(f"group {GROUP}")
    assert summary["least"] in dead


def test_curves_are_those_of_the_inputs_and_rise(tmp_path: Path) -> None:
    mine = subject("llama")
    layers, _, _ = run(mine, tmp_path / "run", criterion="magnitude", unit="none", heads=False, ratios=[0.2, 0.5, 0.8])
    space = workspace(tmp_path / "again", mine)
    matrix = Walk.over(space).matrices[0]
    x = torch.cat([mine.blocks()[0].input_layernorm(mine.module.model.embed_tokens(space.calibration_inputs()))])
    x_TI = x.reshape(-1, x.shape[-1])
    order = matrix.weight.abs().flatten().sort().values
    for ratio, error in zip([0.2, 0.5, 0.8], layers[0].errors, strict=True):
        limit = order[round(ratio * order.numel()) - 1]
        after = matrix.weight * (matrix.weight.abs() > limit)
        gram_II = x_TI.T @ x_TI / len(x_TI)
        assert error == pytest.approx(
            gram_error(matrix.weight, after, gram_II, energy(matrix.weight, gram_II)), rel=1e-3
        )
    assert all(layer.errors == sorted(layer.errors) and layer.loss is None and not layer.heads for layer in layers)


def test_the_model_is_left_alone_and_the_file_has_everything(tmp_path: Path) -> None:
    mine = subject("llama")
    before = {key: value.clone() for key, value in mine.module.state_dict().items()}
    layers, _, file = run(mine, tmp_path / "run")
    assert all(torch.equal(value, before[key]) for key, value in mine.module.state_dict().items())
    content = json.loads(file.read_text())
    assert file.name == "sensitivity.json"
    assert content["ratios"] == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert content["loss"]["ratio"] == 0.5
    assert [layer["layer"] for layer in content["layers"]] == [layer.layer for layer in layers]
    assert [layer["loss"] for layer in content["layers"]] == [layer.loss for layer in layers]
    assert len({layer.loss for layer in layers if layer.block == 0}) == 1, "a block's loss is that of its matrices"


@pytest.mark.parametrize(
    ("architecture", "suffix", "groups"),
    [("llama", "o_proj", 2), ("qwen2", "o_proj", 2), ("gpt2", "attn.c_proj", 4), ("gpt_neox", "attention.dense", 4),
     ("opt", "out_proj", 4), ("gemma", "o_proj", 2), ("mixtral", "o_proj", 2)],
)  # fmt: skip
def test_the_attention_output_is_found_in_any_architecture(
    architecture: str, suffix: str, groups: int, tmp_path: Path
) -> None:
    walk = Walk.over(workspace(tmp_path / "run", subject(architecture)))
    found = measure.attention_outputs(walk)
    assert [heads.matrix.block for heads in found] == [0, 1]
    assert all(suffix in heads.matrix.name and heads.groups == groups for heads in found)


def test_ratios_are_ascending_sparsities() -> None:
    for ratios in ([0.5, 0.3], [0.0, 0.5], [0.5, 1.0], [0.5, 0.5]):
        with pytest.raises(ValueError, match="ascending"):
            SensitivityOptions(use="sensitivity", ratios=ratios)
