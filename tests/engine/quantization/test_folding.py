"""What makes a matrix's input is found by trying, and scaling both sides leaves the block's answers as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import logits, workspace

from engine.calibration import Walk
from engine.quantization.folding import Maker, Probe
from engine.quantization.methods import awq
from engine.subject import Subject

MAKERS = {
    "llama": {"q_proj": "input_layernorm", "gate_proj": "post_attention_layernorm", "down_proj": "up_proj"},
    "gemma": {"q_proj": "input_layernorm", "gate_proj": "post_attention_layernorm", "down_proj": "up_proj"},
    "gpt2": {"c_attn": "ln_1", "c_fc": "ln_2"},
    "opt": {"q_proj": "self_attn_layer_norm", "out_proj": "v_proj", "fc1": "final_layer_norm", "fc2": "fc1"},
    "mixtral": {"q_proj": "input_layernorm"},
}
"""matrix: the module that makes its input; of a mixture's experts none does, as the router reads it too"""


def found(mine: Subject, folder: Path) -> dict[str, tuple[str, Maker]]:
    """{first matrix of a group: (module that makes its input, how)} of the second block."""
    walk = Walk.over(workspace(folder, mine))
    probe = Probe.of(walk)
    names = {id(p): name for name, module in mine.blocks()[1].named_modules() for p in module.parameters(recurse=False)}
    out = {}
    for matrices in walk.groups(1).values():
        maker = probe.maker(1, matrices)
        if maker is not None:
            key = matrices[0].name.removesuffix(".weight").split(".")[-1]
            out[key] = (names[id(maker.parameters[0])].split(".")[-1], maker)
    return out


@pytest.mark.parametrize("architecture", MAKERS)
def test_the_makers_of_inputs_are_found(architecture: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    before = {name: value.clone() for name, value in mine.module.state_dict().items()}
    makers = found(mine, tmp_path / "run")
    assert {matrix: module for matrix, (module, _) in makers.items()} == MAKERS[architecture]
    assert all(maker.shifted == (architecture == "gemma") for _, maker in makers.values() if not maker.matrix)
    assert all(torch.equal(value, before[name]) for name, value in mine.module.state_dict().items()), "all is put back"


def test_a_block_that_adds_little_to_its_input_has_the_same_makers(tmp_path: Path) -> None:
    mine = subject("llama")
    with torch.no_grad():
        for name, parameter in mine.module.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.mul_(1e-4)
    assert {matrix: module for matrix, (module, _) in found(mine, tmp_path / "run").items()} == MAKERS["llama"]


@pytest.mark.parametrize("architecture", MAKERS)
def test_scaling_both_sides_changes_no_answer(architecture: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    before = logits(mine)
    walk = Walk.over(workspace(tmp_path / "run", mine))
    probe = Probe.of(walk)
    for block in range(walk.blocks()):
        for matrices in walk.groups(block).values():
            maker = probe.maker(block, matrices)
            if maker is not None:
                scale = torch.rand(matrices[0].shape[1], generator=torch.Generator().manual_seed(0)) + 0.5
                maker.divide(scale)
                for matrix in matrices:
                    matrix.weight.mul_(scale)
    torch.testing.assert_close(logits(mine), before, atol=1e-4, rtol=1e-3)


def test_columns_with_large_inputs_are_scaled_up() -> None:
    from engine.matrices import Statistics
    from engine.quantization.grid import Format

    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(24, 64, generator=generator), torch.randn(300, 64, generator=generator)
    x[:, :4] *= 30
    scale = awq.scale([weight], Statistics.of(x, want_gram=True), [Format(3, 32, False)])
    assert scale[:4].min() > 2 * scale[4:].max()
    plain = awq.scale([weight], Statistics.of(torch.ones(300, 64), want_gram=True), [Format(3, 32, False)])
    assert torch.equal(plain, torch.ones(64)), "nothing is gained where all inputs are alike"
