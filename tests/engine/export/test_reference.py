"""The dense model quantized to an artifact's bytes: which format that is, and that the run's table shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.models import TEXT, save, subject
from fixtures.workspaces import workspace

from engine import runs
from engine.calibration import Walk
from engine.export import reference
from engine.quantization.grid import Format
from engine.worker import execute

PROFILE = """
name = "tiny"
threads = 1
[model]
source = "{folder}/llama"
device = "cpu"
dtype = "float32"
[calibration]
source = "file:{folder}/text.txt"
samples = 4
length = 32
compute = "float32"
[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 2
length = 64
speed = false
[[step]]
use = "prune"
criterion = "magnitude"
sparsity = 0.9
[[step]]
use = "export"
format = "sparse"
reference = true
"""


@pytest.mark.parametrize("form", [Format(3, 32, False), Format(4, 0, False), Format(8, 32, False)], ids=str)
def test_the_format_whose_bytes_are_nearest_is_taken(form: Format, tmp_path: Path) -> None:
    mine = subject("llama")
    matrices = Walk.over(workspace(tmp_path / "run", mine)).matrices
    coded = sum(form.bits_a_weight(matrix.shape[1]) * matrix.weight.numel() for matrix in matrices) / 8
    other = 4 * (mine.parameters - sum(matrix.weight.numel() for matrix in matrices))
    found, taken = reference.nearest(mine, matrices, round(coded + other) + 3, 4.0)
    assert found == form
    assert taken == round(coded + other)


def test_the_reference_stands_in_the_table(tmp_path: Path) -> None:
    save("llama", tmp_path / "llama")
    (tmp_path / "text.txt").write_text(TEXT)
    run = runs.create("tiny", PROFILE.format(folder=tmp_path), tmp_path / "run")
    assert execute(run) == 0
    metrics = run.state().metrics
    stage = next(name for name in metrics if name.startswith("dense int"))
    assert list(metrics) == ["dense", "pruned", "exported", stage]
    assert metrics[stage]["bytes"].value == pytest.approx(metrics["exported"]["bytes"].value, rel=0.1)
    dense, quantized = metrics["dense"]["perplexity"].value, metrics[stage]["perplexity"].value
    assert quantized == pytest.approx(dense, rel=0.1)
    assert quantized != dense
    assert f"| {stage} |" in (run.path / "report.md").read_text()
