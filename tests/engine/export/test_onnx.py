"""ONNX files: the runtime answers what is in memory, in a process of its own; what cannot be is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import TEXT, save, subject
from fixtures.scripts import continued, said
from fixtures.workspaces import logits, tokens, workspace

from engine import runs
from engine.errors import EngineError
from engine.export import measured
from engine.export.onnx import gptq
from engine.export.runtime import onnx as runtime
from engine.export.runtime import process
from engine.export.runtime.spec import Spec
from engine.quantization import step
from engine.quantization.grid import Codes, Format, span
from engine.quantization.options import QuantizeOptions
from engine.registry import FORMATS
from engine.runs import Run
from engine.subject import Subject
from engine.worker import execute

pytest.importorskip("onnxruntime_genai")


def llama(folder: Path, bits: int | None, **changes: Any) -> Subject:
    mine = subject("llama", hidden_size=64, intermediate_size=96, tie_word_embeddings=True, **changes)
    if bits:
        options = QuantizeOptions(use="quantize", method="rtn", bits=bits)
        step.run(workspace(folder, mine), options)
    return mine


@pytest.mark.parametrize(
    ("name", "bits", "off"), [("onnx_fp32", None, 1e-4), ("onnx_int8", 8, 0.05), ("onnx_int4", 4, 0.05)]
)
def test_the_runtime_answers_what_is_in_memory(name: str, bits: int | None, off: float, tmp_path: Path) -> None:
    """With codes up to what rounding activations and the head to eight bits makes."""
    mine = llama(tmp_path / "run", bits)
    form, folder = FORMATS.load(name).FORMAT, tmp_path / "model"
    folder.mkdir()
    form.check(mine, Format(bits, 32, False) if bits else None)
    form.write(mine, folder, torch.float32)
    given = tokens(1, 30, seed=3)
    runner = runtime.load(Spec(runtime="onnx", form=name, folder=str(folder), threads=1))
    found = torch.from_numpy(runner.logits(given[0].tolist()))
    expected = logits(mine, given)[0]
    assert (found - expected).norm() <= off * expected.norm()
    written, first, rest = runner.generate(given[0].tolist(), 5)
    assert len(written) == 5
    assert min(first, rest) > 0
    if bits is None:
        out = mine.module.generate(given, do_sample=False, max_new_tokens=5, min_new_tokens=5, pad_token_id=0)
        assert written == out[0, 30:].tolist()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_words_hold_every_code_lowest_bits_first(bits: int, symmetric: bool) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    codes = Codes.nearest(weight, span(weight, Format(bits, 32, symmetric)))
    stored = gptq.packed("layer", codes)
    each = 32 // bits

    def unpacked(words: torch.Tensor) -> torch.Tensor:
        shifts = bits * torch.arange(each)
        return ((words.long()[:, None] >> shifts[:, None]) & codes.grid.format.top).reshape(-1, words.shape[1])

    assert torch.equal(unpacked(stored["layer.qweight"]), codes.codes_OI.T.long())
    zeros = (unpacked(stored["layer.qzeros"].T).T + 1) & codes.grid.format.top
    assert torch.equal(zeros, codes.grid.zero_OG.T.long() & codes.grid.format.top)
    assert stored["layer.g_idx"].tolist() == [0] * 32 + [1] * 32


PROFILE = """
name = "tiny"
threads = 1
[model]
source = "{source}"
device = "cpu"
dtype = "float32"
[calibration]
source = "{text}"
samples = 8
length = 48
compute = "float32"
[evaluate]
perplexity = "{text}"
windows = 2
length = 64
speed = {speed}
{steps}
"""
QUANTIZE = '[[step]]\nuse = "quantize"\nmethod = "rtn"\nbits = {}\n'
EXPORT = '[[step]]\nuse = "export"\nformat = "{}"\ntolerance = 0.1\n'


def begin(tmp_path: Path, steps: str, speed: bool = False) -> Run:
    save("llama", tmp_path / "llama", hidden_size=64, intermediate_size=96)
    (tmp_path / "text.txt").write_text(TEXT)
    values = {"source": tmp_path / "llama", "text": f"file:{tmp_path}/text.txt", "speed": str(speed).lower()}
    return runs.create("tiny", PROFILE.format(steps=steps, **values), tmp_path / "run")


def test_a_run_measures_the_file_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(process.LLAMACPP_FOLDER, raising=False)
    steps = QUANTIZE.format(4) + EXPORT.format("onnx_int4") + EXPORT.format("gguf_q4_1")
    run = begin(tmp_path, steps, speed=True)
    assert execute(run) == 0
    state = run.state()
    found = state.metrics["exported onnx_int4"]
    assert found["perplexity"].value == pytest.approx(state.metrics["quantized"]["perplexity"].value, rel=0.1)
    for name in ("decode_tokens_per_second", "prefill_tokens_per_second", "first_token_seconds", "load_seconds"):
        assert found[name].value > 0
        assert name not in state.metrics["exported gguf_q4_1"], (
            "its runtime is not here, and another's speed is not its own"
        )
    counts = [threads for stage, threads in state.speeds if stage == "exported onnx_int4"]
    assert sorted(counts) == sorted({1, *measured.other_counts(1)})
    assert {stage for stage, _ in state.speeds} == {"exported onnx_int4"}
    assert min(min(event.decode, event.prefill) for event in state.speeds.values()) > 0
    [log] = [log for log in state.log if "its runtime is not here" in log.message]
    assert log.level == "warning"
    assert "npm install node-llama-cpp" in log.hint
    assert process.LLAMACPP_FOLDER in log.hint
    assert found["peak_memory_bytes"].value < state.metrics["quantized"]["peak_memory_bytes"].value, (
        "no torch is loaded"
    )
    summary = state.steps[1].summary
    assert summary["divergence"] < 0.01
    assert summary["agreement"] > 0.9
    assert [artifact.format for artifact in state.artifacts] == ["onnx_int4", "gguf_q4_1"]
    report = (run.path / "report.md").read_text()
    assert "## Load and run artifacts/model\n" in report
    assert "from llama_cpp import Llama" in report
    for stage in ("exported onnx_int4", "exported gguf_q4_1"):
        divergence, agreement = (state.metrics[stage][name] for name in ("divergence", "agreement"))
        assert 0 <= divergence.value < 0.01
        assert agreement.value > 0.9
        assert divergence.n == agreement.n == 64
        assert (
            f"- {stage}: the dense model was not quantized to as many bytes, as no step but quantize changed" in report
        )
    header = next(line for line in report.splitlines() if line.startswith("| stage |"))
    assert "| perplexity | KL | same top-1 |" in header
    assert "hold a file's answers against those of the model in memory" in report
    assert "| exported onnx_int4 | 1 |" in report.partition("## Speed by threads")[2]
    assert "import onnxruntime_genai as genai" in report
    assert json.loads((run.path / "result.json").read_text())["rows"][-2]["load_seconds"] > 0


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (QUANTIZE.format(3) + EXPORT.format("onnx_int4"), "cannot hold codes with 3 bits"),
        (EXPORT.format("compressed_tensors"), "no step before it quantizes"),
        (QUANTIZE.format(4) + EXPORT.format("gguf_q4_0"), "round once more"),
    ],
)
def test_a_run_is_refused_before_any_work(steps: str, message: str, tmp_path: Path) -> None:
    run = begin(tmp_path, steps)
    assert execute(run) == 2
    failure = run.state().failure
    assert failure is not None
    assert message in failure.message
    assert "dense" not in run.state().metrics


@pytest.mark.parametrize("name", ["onnx_fp32", "onnx_int8"])
def test_a_classifier_runs_as_one_file(name: str, tmp_path: Path) -> None:
    text = PROFILE.replace('source = "{text}"\nsamples = 8\nlength = 48', 'source = "builtin"')
    profile = text.format(source="builtin:linear", text="none", speed="false", steps=EXPORT.format(name))
    run = runs.create("tiny", profile, tmp_path / "run")
    assert execute(run) == 0
    metrics = run.state().metrics
    assert metrics["exported"]["accuracy:features"].value == pytest.approx(
        metrics["dense"]["accuracy:features"].value, abs=0.03
    )
    dense, file = (metrics[stage]["accuracy:features"] for stage in ("dense", "exported"))
    assert (file.data, len(file.right)) == (dense.data, dense.n)
    assert file.right.count("1") == round(file.value * dense.n)
    sizes = {file.name for file in (run.artifacts / "model").iterdir()}
    assert sizes == {"model.onnx"}


def test_the_script_beside_the_weights_needs_only_the_runtime(tmp_path: Path) -> None:
    mine, folder = llama(tmp_path / "run", None), tmp_path / "model"
    folder.mkdir()
    form = FORMATS.load("onnx_fp32").FORMAT
    form.write(mine, folder, torch.float32)
    prompt = "a text, with yes and no"
    output, errors = said(folder / form.script.name, prompt, "8", without=["torch", "transformers"])
    expected = continued(mine, prompt, 8)
    assert expected
    assert output.strip().startswith(expected), errors


def test_an_artifact_that_does_not_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not run") as error:
        process.run(Spec(runtime="onnx", form="onnx_fp32", folder=str(tmp_path), threads=1))
    assert error.value.where == str(tmp_path)
