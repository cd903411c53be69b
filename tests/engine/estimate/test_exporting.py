"""The estimated size of an export is that of the file, in every format, before and after quantization and pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine.calibration import Walk
from engine.estimate import exporting
from engine.estimate.scene import Scene
from engine.estimate.sizes import Sizes
from engine.export.options import ExportOptions
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.quantization.options import QuantizeOptions
from engine.registry import FORMATS, STEPS


def quantize(**options: Any) -> QuantizeOptions:
    return QuantizeOptions.model_validate({"use": "quantize", "method": "rtn", "bits": 4, **options})


PRUNE = PruneOptions(use="prune", criterion="magnitude", sparsity=0.6)
ROUNDED = quantize(bits=8, group=0, symmetric=True, activations="dynamic")
CASES: dict[str, tuple[StepOptions, ...]] = {
    "safetensors": (quantize(),),
    "compressed_tensors": (quantize(group=32),),
    "compressed_tensors, inputs rounded": (ROUNDED,),
    "sparse": (PRUNE,),
    "gguf_f16": (),
    "gguf_q8_0": (PRUNE,),
    "gguf_q4_1": (),
    "onnx_fp32": (),
    "onnx_int8": (quantize(bits=8),),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_as_large_as_estimated(name: str, tmp_path: Path) -> None:
    steps, name = CASES[name], name.partition(",")[0]
    if name.startswith("onnx"):
        pytest.importorskip("onnxruntime_genai")
    mine = subject("llama", hidden_size=256, intermediate_size=768, num_hidden_layers=3, tie_word_embeddings=True)
    space, options = workspace(tmp_path / "run", mine), ExportOptions(use="export", format=name)
    space.profile = space.profile.model_copy(update={"step": [*steps, options]})
    scene = Scene(space, Sizes.of(mine, Walk.over(space).matrices, space.profile.calibration))
    form, folder = FORMATS.load(name).FORMAT, tmp_path / "model"
    estimated = exporting.size(scene, options, form)
    for index, step in enumerate(steps):
        space.step = index
        STEPS[step.use].run()(space, step)
    folder.mkdir()
    form.write(mine, folder, torch.float32)
    assert estimated == pytest.approx(form.bytes(folder), rel=0.15)


def test_bits_chosen_under_a_budget_take_it(tmp_path: Path) -> None:
    mine = subject("llama", hidden_size=128)
    space, options = workspace(tmp_path / "run", mine), ExportOptions(use="export", format="sparse")
    space.profile = space.profile.model_copy(update={"step": [quantize(size_ratio=0.6), options]})
    scene = Scene(space, Sizes.of(mine, Walk.over(space).matrices, space.profile.calibration))
    found = exporting.size(scene, options, FORMATS.load("sparse").FORMAT)
    assert found == pytest.approx(0.6 * mine.bytes)
