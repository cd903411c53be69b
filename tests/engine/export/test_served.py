"""vLLM's rules for compressed-tensors folders, as its source has them: broken ones are said when the folder is written."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine.export import served
from engine.export import step as exporting
from engine.export.options import ExportOptions
from engine.quantization import step
from engine.quantization.grid import Format
from engine.quantization.options import QuantizeOptions

LAYERS = [
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
]  # fmt: skip


def formats(**bits: int) -> dict[str, Format]:
    """Of two blocks; `bits` of a layer in the second one, 4 elsewhere."""
    found = {f"model.layers.{block}.{layer}.weight": Format(4, 32, True) for block in range(2) for layer in LAYERS}
    for layer, width in bits.items():
        name = next(name for name in found if f"layers.1.{layer}" in name.replace("self_attn.", "").replace("mlp.", ""))
        found[name] = Format(width, 32, True)
    return found


@pytest.mark.parametrize(("bits", "inputs"), [(4, 0), (8, 0), (8, 8)], ids=str)
@pytest.mark.parametrize(("group", "symmetric"), itertools.product((0, 32, 128), (True, False)), ids=str)
def test_one_format_of_four_or_eight_bits_breaks_no_rule(bits: int, inputs: int, group: int, symmetric: bool) -> None:
    assert served.doubts(dict.fromkeys(formats(), Format(bits, group, symmetric, inputs))) == []


@pytest.mark.parametrize("symmetric", [True, False])
def test_three_bits_are_doubted(symmetric: bool) -> None:
    [doubt] = served.doubts(dict.fromkeys(formats(), Format(3, 32, symmetric)))
    assert "4 or 8 bits" in doubt


@pytest.mark.parametrize("layer", ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"])
def test_layers_that_become_one_have_one_format(layer: str) -> None:
    [doubt] = served.doubts(formats(**{layer: 8}))
    fused = "self_attn.q_proj/k_proj/v_proj" if layer in served.FUSED[0] else "mlp.gate_proj/up_proj"
    assert f"model.layers.1.{fused} as one layer" in doubt


@pytest.mark.parametrize("layer", ["o_proj", "down_proj"])
def test_other_layers_may_differ(layer: str) -> None:
    assert served.doubts(formats(**{layer: 8})) == []


def test_a_layer_without_codes_beside_others_with_them_is_doubted() -> None:
    found = formats()
    del found["model.layers.0.self_attn.k_proj.weight"]
    assert len(served.doubts(found)) == 1


@pytest.mark.parametrize(("bits", "said"), [(3, 1), (4, 0)])
def test_the_export_warns(bits: int, said: int, tmp_path: Path) -> None:
    space = workspace(tmp_path / "run", subject("llama"))
    about: dict[str, Any] = {"use": "quantize", "method": "rtn", "bits": bits}
    steps = [
        QuantizeOptions.model_validate(about),
        ExportOptions(use="export", format="compressed_tensors", dtype="float32", verify=False),
    ]
    space.profile = space.profile.model_copy(update={"step": steps})
    step.run(space, steps[0])
    space.step = 1
    exporting.run(space, steps[1])
    warnings = [log.message for log in space.state.log if log.level == "warning"]
    assert sum("vLLM" in message for message in warnings) == said
