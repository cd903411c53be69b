"""The dense model quantized to an artifact's bytes: which format that is, and that the run's table shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.models import TEXT, save, subject
from fixtures.workspaces import workspace

from engine import artifacts, runs
from engine import events as ev
from engine.calibration import Walk
from engine.export import reference
from engine.export.options import ExportOptions
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.quantization.grid import Format
from engine.quantization.options import QuantizeOptions
from engine.state import RunState
from engine.subject import Subject
from engine.worker import execute
from engine.workspace import Workspace
from tui.narration import Narrator

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
    shapes = [matrix.shape for matrix in matrices]
    found, taken = reference.nearest(mine.parameters, shapes, round(coded + other) + 3, 4.0)
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
    report = (run.path / "report.md").read_text()
    assert f"| {stage} |" in report
    assert "## Against the dense model, only quantized\n\n- exported (" in report
    [told] = run.state().references.values()
    assert (told.stage, told.reference) == ("exported", stage)
    assert (told.perplexity_low, told.perplexity_high) == (metrics["exported"]["perplexity"].low,
                                                           metrics["exported"]["perplexity"].high)  # fmt: skip
    assert (told.reference_low, told.reference_high) == (
        metrics[stage]["perplexity"].low,
        metrics[stage]["perplexity"].high,
    )
    assert told.reference_high is not None
    assert (told.perplexity, told.reference_perplexity) == (metrics["exported"]["perplexity"].value, quantized)


def test_one_reference_serves_exports_of_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unasked: in half precision a quarter of the channels less takes less than 16 bits a weight."""
    quantized: list[Format] = []
    loads: list[Workspace] = []
    dense_subject = Workspace.dense_subject
    monkeypatch.setattr(Workspace, "dense_subject", lambda space: loads.append(space) or dense_subject(space))
    monkeypatch.setattr(reference, "quantize", lambda workspace, walk, form: quantized.append(form))
    save("llama", tmp_path / "llama")
    (tmp_path / "text.txt").write_text(TEXT)
    export = '[[step]]\nuse = "export"\ndtype = "bfloat16"\ntolerance = 0.5\n'
    head = PROFILE.format(folder=tmp_path).partition("[[step]]")[0]
    prune = '[[step]]\nuse = "prune"\npattern = "channels"\nsparsity = 0.25\n'
    run = runs.create("tiny", head + prune + export + export, tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    assert len(quantized) == len(loads) == 1
    assert list(run.state().references) == ["exported safetensors", "exported safetensors-2"]
    first, second = run.state().references.values()
    assert (first.reference, first.reference_bytes) == (second.reference, second.reference_bytes)


@pytest.mark.parametrize(
    ("name", "steps", "size", "dense", "changes", "said"),
    [("llama", ["quantize"], 600, 1000, {}, "no step but quantize changed"),
     ("llama", [], 600, 1000, {}, "no step but quantize changed"),
     ("llama", ["prune"], 2000, 1000, {}, "16 bits or more"),
     ("llama", ["prune"], 600, 1000, {"verify": False}, "verify = false"),
     ("llama", ["prune"], 600, 1000, {"reference": False}, "reference is false"),
     ("llama", ["prune"], 10**6, 10**9 + 1, {}, "more than 1,000 million weights"),
     ("stream", ["prune"], 600, 1000, {}, "read block by block"), ("linear", ["prune"], 600, 1000, {}, "no language model"),
     ("llama", ["prune"], 600, 1000, {}, None), ("llama", ["quantize"], 2000, 1000, {"reference": True}, None)],
)  # fmt: skip
def test_it_is_said_why_there_is_none(
    name: str, steps: list[str], size: int, dense: int, changes: dict[str, bool], said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mine = subject("llama") if name != "linear" else Subject(torch.nn.Linear(2, 1), "x", "x")
    monkeypatch.setattr(mine, "stream", object() if name == "stream" else None)
    before = [{"prune": PRUNE, "quantize": QUANTIZE}[step] for step in steps]
    options = ExportOptions.model_validate({"use": "export", **changes})
    reason = reference.unwanted(options, mine, before, size, dense)
    assert (reason is None) == (said is None)
    if said and reason:
        assert said in reason
        assert reason.endswith("; reference = true does it") == (name != "linear" and changes != {"reference": False})
        event = ev.ReferenceSkipped(step=0, stage="exported", reason=reason)
        text = artifacts.references(RunState.of([event]))
        assert text.endswith(f"\n\n- exported: the dense model was not quantized to as many bytes, as {reason}.")
        assert Narrator("")(event) == [f"      {artifacts.alone(event)}"]


def test_a_reference_that_is_made_later_takes_the_reason_s_place() -> None:
    skipped = ev.ReferenceSkipped(step=0, stage="exported", reason="x")
    measured = ev.ReferenceMeasured(step=0, stage="exported", bytes=1, perplexity=None, reference="dense int4 g32",
                                    reference_bytes=1, reference_perplexity=None)  # fmt: skip
    assert list(RunState.of([skipped, measured]).unreferenced) == []
    assert list(RunState.of([measured, skipped]).references) == []


PRUNE, QUANTIZE = PruneOptions(use="prune"), QuantizeOptions(use="quantize")


@pytest.mark.parametrize(
    ("before", "size", "changes", "expected"),
    [([PRUNE, QUANTIZE], 600, {}, True), ([QUANTIZE], 600, {}, False), ([PRUNE], 2000, {}, False), ([], 600, {}, False),
     ([PRUNE], 600, {"verify": False}, False), ([PRUNE], 600, {"reference": False}, False),
     ([QUANTIZE], 2000, {"reference": True}, True)],
)  # fmt: skip
def test_a_reference_is_made_unasked_where_it_tells_something(
    before: list[StepOptions], size: int, changes: dict[str, bool], expected: bool
) -> None:
    options = ExportOptions.model_validate({"use": "export", **changes})
    assert reference.wanted(options, subject("llama"), before, size, 1000) is expected


def test_none_is_made_unasked_of_a_large_model() -> None:
    size, most = 10**6, reference.LARGEST
    options = ExportOptions(use="export")
    assert reference.wanted(options, subject("llama"), [PRUNE], size, most)
    assert not reference.wanted(options, subject("llama"), [PRUNE], size, most + 1)


@pytest.mark.parametrize(
    ("mine", "other", "said"),
    [((100, 30.0), (101, 20.0), "is dominated by"), ((100, 30.0), (80, 30.0), "is dominated by"),
     ((100, 20.0), (101, 30.0), "dominates"), ((80, 20.0), (100, 20.0), "dominates"),
     ((80, 30.0), (100, 20.0), "is smaller and worse than"), ((100, 20.0), (80, 30.0), "is larger and better than"),
     ((100, 20.0), (101, 20.0), "is worth as much as"), ((100, None), (100, 20.0), "beside")],
)  # fmt: skip
def test_the_report_says_which_dominates(
    mine: tuple[float, float | None], other: tuple[float, float], said: str
) -> None:
    event = ev.ReferenceMeasured(
        step=0, stage="exported", bytes=mine[0], perplexity=mine[1], reference="dense int4 g32", reference_bytes=other[0],
        reference_perplexity=other[1],
    )  # fmt: skip
    text = artifacts.against(event)
    assert f") {said} dense int4 g32 (" in text
    assert f"{mine[0]} B" in text
    assert artifacts.references(RunState.of([event])).endswith(f"- {text}.")


@pytest.mark.parametrize(
    ("size", "said", "apart"),
    [(80, "dominates", "is smaller and worse than"), (100, "is worth as much as", "is dominated by"),
     (120, "is dominated by", "is dominated by")],
)  # fmt: skip
def test_perplexities_are_compared_window_by_window(size: int, said: str, apart: str) -> None:
    """Not by their own intervals, which tell how much windows differ."""
    event = ev.ReferenceMeasured(
        step=0, stage="exported", bytes=size, perplexity=20.5, perplexity_low=19.0, perplexity_high=22.0,
        reference="dense int4 g32", reference_bytes=100, reference_perplexity=20.0, reference_low=18.5, reference_high=21.5,
    )  # fmt: skip
    event = replace(event, **reference.paired([2.0, 3.0, 4.0], [2.1, 2.9, 3.9]))
    text = artifacts.references(RunState.of([event]))
    assert f"perplexity 20.50 [19.00, 22.00]) {said} dense int4 g32 (100 B, perplexity 20.00 [18.50, 21.50])" in text
    assert "(log-perplexity +0.033 [" in text
    event = replace(event, **reference.paired([2.05, 3.06, 4.05], [2.0, 3.0, 4.0]))
    assert f") {apart} dense int4 g32 (" in artifacts.against(event)
    assert reference.paired([1.0, 2.0], [1.0]) == {}
