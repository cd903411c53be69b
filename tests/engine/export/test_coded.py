"""Formats that hold integer codes: what transformers reads is what is in memory, sizes are as promised, refusals come first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.models import subject, tiny, tokenizer
from fixtures.scripts import continued, said
from fixtures.workspaces import logits, workspace
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from engine import model
from engine.calibration import Walk
from engine.errors import UsageError
from engine.export.formats import compressed_tensors, sparse
from engine.export.load_sparse import bits, load
from engine.export.verify import compared
from engine.profile import ModelOptions
from engine.pruning import step as prune
from engine.pruning.options import PruneOptions
from engine.quantization import step
from engine.quantization.grid import Format
from engine.quantization.options import QuantizeOptions
from engine.subject import Subject

FORMATS = [(4, 32, False), (4, 32, True), (3, 32, False), (3, 0, True), (8, 0, False), (8, 32, True)]
READING = ModelOptions(source="x", device="cpu", dtype="float32")


def quantized(folder: Path, bits: int = 4, group: int = 32, symmetric: bool = False, pruned: float = 0.0,
              activations: str = "none") -> Subject:  # fmt: skip
    """A tiny Llama, perhaps pruned, with codes by rounding."""
    mine = subject("llama", tie_word_embeddings=True)
    at = workspace(folder, mine)
    for matrix in Walk.over(at).matrices:
        matrix.weight[torch.rand(matrix.shape, generator=torch.Generator().manual_seed(0)) < pruned] = 0
    about = {"method": "rtn", "bits": bits, "group": group, "symmetric": symmetric, "activations": activations}
    step.run(at, QuantizeOptions.model_validate({"use": "quantize", **about}))
    return mine


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    return made


@pytest.mark.parametrize("values", FORMATS, ids=str)
def test_transformers_reads_the_codes(values: tuple[int, int, bool], tmp_path: Path) -> None:
    mine, target = quantized(tmp_path / "run", *values, pruned=0.5), folder(tmp_path)
    compressed_tensors.write(mine, target, torch.float32)
    again = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    assert torch.equal(logits(Subject(again.eval(), "x", "x", tokenizer())), logits(mine))


def test_transformers_reads_two_of_four_in_four_bits(tmp_path: Path) -> None:
    mine, target = subject("llama", tie_word_embeddings=True), folder(tmp_path)
    pruning = PruneOptions(use="prune", criterion="magnitude", pattern="2:4")
    prune.run(workspace(tmp_path / "pruning", mine), pruning)
    step.run(workspace(tmp_path / "quantizing", mine), QuantizeOptions(use="quantize", method="gptq", bits=4, group=32))
    compressed_tensors.write(mine, target, torch.float32)
    again = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    found = Subject(again, "x", "x", tokenizer())
    torch.testing.assert_close(logits(found), logits(mine), atol=1e-3, rtol=0)
    weight = again.model.layers[1].mlp.up_proj.weight
    assert ((weight.reshape(-1, 4) == 0).sum(1) >= 2).all()
    assert (weight != 0).any()


def test_the_script_beside_the_codes_needs_only_the_runtime(tmp_path: Path) -> None:
    mine, target = quantized(tmp_path / "run"), folder(tmp_path)
    compressed_tensors.write(mine, target, torch.float32)
    script = target / str(compressed_tensors.FORMAT.script and compressed_tensors.FORMAT.script.name)
    prompt = "a text, with yes and no"
    output, errors = said(script, prompt, "8", without=[])
    expected = continued(mine, prompt, 8)
    assert expected
    assert output.strip().startswith(expected), errors


@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_zeros_of_a_pruned_model_are_there_when_it_is_read_back(activations: str, tmp_path: Path) -> None:
    mine = quantized(tmp_path / "run", 8, 0, True, pruned=0.5, activations=activations)
    target = folder(tmp_path)
    compressed_tensors.write(mine, target, torch.float32)
    again = compressed_tensors.read(READING, target)
    assert compared(mine, again).other_zeros >= compared(mine, again).zeros
    assert torch.equal(logits(again), logits(mine))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pruned", [0.0, 0.5])
def test_transformers_rounds_the_inputs_of_a_folder_that_says_so(
    pruned: float, dtype: torch.dtype, tmp_path: Path
) -> None:
    mine, target = quantized(tmp_path / "run", 8, 0, True, pruned, activations="dynamic"), folder(tmp_path)
    compressed_tensors.write(mine, target, dtype)
    for parameter in mine.module.parameters():  # buffers stay in float32, as transformers leaves them
        parameter.data = parameter.data.to(dtype)
    again = Subject(AutoModelForCausalLM.from_pretrained(target, dtype=dtype).eval(), "x", "x", tokenizer())
    found, expected = logits(again), logits(mine)
    assert (found - expected).norm() <= 1e-3 * expected.norm()
    for layer in mine.module.modules():
        layer._forward_pre_hooks.clear()
    assert (found - logits(mine)).norm() > 5e-3 * expected.norm(), "without rounding the answers are others"


def test_a_folder_with_rounded_inputs_is_the_library_s_own_scheme(tmp_path: Path) -> None:
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import QuantizationConfig, preset_name_to_scheme

    mine, target = quantized(tmp_path / "run", 8, 0, True, activations="dynamic"), folder(tmp_path)
    compressed_tensors.write(mine, target, torch.bfloat16)
    said = json.loads((target / "config.json").read_text())["quantization_config"]
    [scheme] = QuantizationConfig.model_validate(said).config_groups.values()
    library = preset_name_to_scheme("W8A8", ["Linear"])
    assert (scheme.weights, scheme.input_activations) == (library.weights, library.input_activations)
    assert said["format"] == infer_module_format(torch.nn.Linear, scheme).value == "int-quantized"
    with safe_open(target / "model.safetensors", "pt") as stored:
        names = [name for name in stored.keys() if "up_proj" in name and "layers.1" in name]  # noqa: SIM118
        found = {name.rpartition(".")[2]: stored.get_tensor(name) for name in names}
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()}
    assert shapes == {"weight": (torch.int8, (64, 32)), "weight_scale": (torch.bfloat16, (64, 1))}


def test_the_configuration_is_the_library_s_own(tmp_path: Path) -> None:
    from compressed_tensors.quantization import QuantizationConfig

    mine, target = quantized(tmp_path / "run"), folder(tmp_path)
    compressed_tensors.write(mine, target, torch.bfloat16)
    said = json.loads((target / "config.json").read_text())["quantization_config"]
    said.pop("dequantize")
    config = QuantizationConfig.model_validate(said)
    found = config.config_groups["group_0"].weights
    assert (found.num_bits, found.group_size, found.symmetric, found.strategy) == (4, 32, False, "group")
    assert config.ignore == ["lm_head"]


def test_layers_of_different_formats_are_named_each(tmp_path: Path) -> None:
    module = tiny("llama")
    names = [f"{name}.weight" for name, found in module.named_modules() if isinstance(found, torch.nn.Linear)][:-1]
    forms = {name: Format(4 if "mlp" in name else 8, 32, True) for name in names}
    groups = compressed_tensors.quantization_config(module, forms)["config_groups"].values()
    assert {group["weights"]["num_bits"]: len(group["targets"]) for group in groups} == {8: 8, 4: 6}
    assert all("mlp" in name for group in groups if group["weights"]["num_bits"] == 4 for name in group["targets"])


@pytest.mark.parametrize("name", ["mixtral", "gpt2"])
def test_weights_that_are_no_linear_layer_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Linear layers only"):
        compressed_tensors.check(subject(name), Format(4, 32, True))


@pytest.mark.parametrize("name", ["mixtral", "gpt2"])
def test_the_sparse_layout_holds_their_weights_but_no_codes_of_them(name: str, tmp_path: Path) -> None:
    mine, target = subject(name), folder(tmp_path)
    with pytest.raises(UsageError, match="Linear layers only"):
        sparse.check(mine, Format(4, 32, True))
    sparse.check(mine, None)
    sparse.write(mine, target, torch.float32)


def test_a_model_that_is_not_quantized_is_refused() -> None:
    with pytest.raises(UsageError, match="no step before it quantizes"):
        compressed_tensors.check(subject("llama"), None)


@pytest.mark.parametrize("pruned", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("values", FORMATS, ids=str)
def test_the_sparse_layout_holds_codes(values: tuple[int, int, bool], pruned: float, tmp_path: Path) -> None:
    mine, target = quantized(tmp_path / "run", *values, pruned=pruned), folder(tmp_path)
    sparse.write(mine, target, torch.float32)
    again = sparse.read(READING, target)
    for (name, one), (other_name, other) in zip(mine.tensors(), again.tensors(), strict=True):
        assert (name, True) == (other_name, torch.equal(one, other)), name


def matrix_bytes(target: Path) -> int:
    """Of one matrix of the second block, in the folder."""
    with safe_open(target / "model.safetensors", "pt") as stored:
        names = [name for name in stored.keys() if "layers.1.mlp.up_proj.weight" in name]  # noqa: SIM118
        tensors = [stored.get_tensor(name) for name in names if not name.endswith(("#shape", "_shape"))]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_zeros_take_no_bytes(tmp_path: Path) -> None:
    target = folder(tmp_path)
    mine = subject("llama")
    for block in mine.blocks():
        for parameter in block.parameters():
            if parameter.ndim == 2:
                parameter.view(-1)[::2] = 0
    sparse.write(mine, target, torch.bfloat16)
    assert matrix_bytes(target) <= 0.58 * 2 * 64 * 32


def test_half_the_codes_take_fewer_bytes_than_all(tmp_path: Path) -> None:
    one, other = tmp_path / "codes", tmp_path / "half"
    for target, pruned in ((one, 0.0), (other, 0.5)):
        target.mkdir()
        mine = quantized(tmp_path / f"run-{pruned}", pruned=pruned)
        (compressed_tensors if target is one else sparse).write(mine, target, torch.bfloat16)
    assert matrix_bytes(other) < 0.85 * matrix_bytes(one)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bits_are_unpacked_as_they_were_packed(given_: list[bool]) -> None:
    assert bits(sparse.packed(torch.tensor(given_)), len(given_)).bool().tolist() == given_


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    made = tmp_path / "elsewhere"
    made.mkdir()
    return made


def test_the_script_beside_the_weights_needs_nothing_of_ours(elsewhere: Path, tmp_path: Path) -> None:
    mine, target = quantized(tmp_path / "run", pruned=0.5), folder(tmp_path)
    sparse.write(mine, target, torch.bfloat16)
    code = (
        "import sys; sys.modules['engine'] = sys.modules['transformers'] = None\n"
        f"sys.path.insert(0, {str(target)!r})\nfrom load_sparse import load\n"
        f"print(len(load({str(target / 'model.safetensors')!r})))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    parameters = dict(mine.module.named_parameters())
    assert done.stdout.strip() == str(len(parameters)), done.stderr
    assert load(str(target / "model.safetensors")).keys() == parameters.keys()


def test_what_is_written_while_streaming_is_the_same(tmp_path: Path) -> None:
    tiny("llama", tie_word_embeddings=True).save_pretrained(tmp_path / "llama")
    tokenizer().save_pretrained(tmp_path / "llama")
    found = {}
    for memory in ("resident", "stream"):
        options = ModelOptions(source=str(tmp_path / "llama"), device="cpu", dtype="float32", memory=memory)
        mine = model.load(options)
        step.run(workspace(tmp_path / f"run-{memory}", mine), QuantizeOptions(use="quantize", method="rtn"))
        for form in (compressed_tensors, sparse):
            target = tmp_path / f"{memory}-{form.NAME}"
            target.mkdir()
            form.write(mine, target, torch.bfloat16)
            with safe_open(target / "model.safetensors", "pt") as stored:
                found[memory, form.NAME] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    for form in (compressed_tensors, sparse):
        one, other = found["resident", form.NAME], found["stream", form.NAME]
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
