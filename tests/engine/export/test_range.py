"""Numbers that a file's format cannot hold: refused before any work, and named where they are met while writing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine import builtin, model
from engine.errors import EngineError, Unavailable, UsageError
from engine.export import step
from engine.export.format import check_range
from engine.export.options import ExportOptions
from engine.profile import ModelOptions
from engine.quantization import step as quantizing
from engine.quantization.options import QuantizeOptions
from engine.registry import FORMATS
from engine.subject import Subject
from engine.weights import as_dtype

WEIGHT = "model.layers.0.mlp.up_proj.weight"
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def large(size: float, name: str = WEIGHT) -> Subject:
    mine = subject("llama", hidden_size=64, intermediate_size=96)
    mine.module.get_parameter(name).data.view(-1)[3] = -size
    return mine


def streamed(size: float, folder: Path) -> Subject:
    mine = large(size)
    mine.module.save_pretrained(folder)
    assert mine.tokenizer is not None
    mine.tokenizer.save_pretrained(folder)
    return model.load(ModelOptions(source=str(folder), device="cpu", dtype="float32", memory="stream"))


def refused(mine: Subject, name: str, dtype: torch.dtype) -> UsageError:
    with pytest.raises(UsageError, match="holds numbers up to") as error:
        check_range(mine, FORMATS.load(name).FORMAT, name, dtype)
    return error.value


@pytest.mark.parametrize("name", ["safetensors", "compressed_tensors", "sparse"])
def test_a_dtype_without_room_for_a_weight_is_refused(name: str, tmp_path: Path) -> None:
    form = FORMATS.load(name).FORMAT
    for mine in (large(1e5), streamed(1e5, tmp_path / "model")):
        error = refused(mine, name, F16)
        assert (error.where, error.message) == (
            WEIGHT,
            "float16 holds numbers up to 6.55e+04 here, and a weight has 1e+05",
        )
        assert "bfloat16" in str(error.hint)
        for dtype in (BF16, F32):
            check_range(mine, form, name, dtype)
    check_range(large(6e4), form, name, F16)


@pytest.mark.parametrize(
    ("name", "held", "too_large"),
    [("gguf_f16", 6e4, 7e4), ("gguf_q8_0", 8e6, 9e6), ("gguf_q4_0", 5e5, 6e5), ("gguf_q4_1", 1e6, 1.1e6)],
)
def test_a_type_of_gguf_without_room_for_a_weight_is_refused(name: str, held: float, too_large: float) -> None:
    """Whatever the dtype asked for; embeddings beside codes are Q8_0, norms float32."""
    form = FORMATS.load(name).FORMAT
    check_range(large(held), form, name, F16)
    assert refused(large(too_large), name, F32).hint == 'format = "safetensors"'
    if name != "gguf_f16":
        check_range(large(7e6, "model.embed_tokens.weight"), form, name, F16)
    check_range(large(1e9, "model.norm.weight"), form, name, F16)


def test_the_export_step_refuses_it_before_any_work(tmp_path: Path) -> None:
    space = workspace(tmp_path / "run", large(1e5))
    with pytest.raises(UsageError, match="float16 holds"):
        step.check_options(space, 0, ExportOptions(use="export", dtype="float16"), None)
    step.check_options(space, 0, ExportOptions(use="export"), None)


def test_weights_are_not_read_where_the_file_holds_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = subject("llama")
    monkeypatch.setattr(mine, "tensors", lambda: pytest.fail("read"))
    for name in ("safetensors", "sparse", "onnx_fp32"):
        check_range(mine, FORMATS.load(name).FORMAT, name, BF16)
    check_range(mine, FORMATS.load("onnx_fp32").FORMAT, "onnx_fp32", F16)


@pytest.mark.parametrize("name", ["safetensors", "sparse", "streamed", "classifier"])
def test_a_weight_that_overflows_while_it_is_written_is_named(name: str, tmp_path: Path) -> None:
    folder, mine, weight = tmp_path / "out", large(1e5), WEIGHT
    folder.mkdir()
    if name == "streamed":
        mine = streamed(1e5, tmp_path / "model")
    elif name == "classifier":
        module, features = builtin.linear(0)
        mine = Subject(module.eval(), "builtin:linear", "linear", features=features)
        weight, parameter = next(module.named_parameters())
        parameter.data.view(-1)[0] = 1e5
    form = FORMATS.load(name if name == "sparse" else "safetensors").FORMAT
    with pytest.raises(EngineError, match="float16 cannot hold the weight") as error:
        form.write(mine, folder, F16)
    assert error.value.where == weight
    assert "bfloat16" in str(error.value.hint)


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "codes"])
@pytest.mark.parametrize(("name", "bits", "symmetric"), [("q8_0", 8, True), ("q4_0", 4, True), ("q4_1", 4, False)])
def test_a_scale_that_overflows_while_it_is_written_is_an_error(
    name: str, bits: int, symmetric: bool, coded: bool, tmp_path: Path
) -> None:
    mine, folder = large(1e9), tmp_path / "out"
    folder.mkdir()
    if coded:
        options = QuantizeOptions(use="quantize", method="rtn", bits=bits, symmetric=symmetric)
        quantizing.run(workspace(tmp_path / "run", mine), options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EngineError, match=f"scales of {name.upper()} are float16") as error:
            FORMATS.load(f"gguf_{name}").FORMAT.write(mine, folder, F32)
    assert error.value.where == WEIGHT
    assert error.value.hint


def test_an_infinity_that_was_there_is_kept() -> None:
    mask = torch.tensor([0.0, -torch.inf])
    assert torch.equal(as_dtype("mask", mask, F16), mask.half())


def test_a_model_that_float16_cannot_hold_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    streamed(1e5, folder)
    with pytest.raises(Unavailable, match="holds NaN or infinite") as error:
        model.load(ModelOptions(source=str(folder), device="cpu", dtype="float16", memory="resident"))
    assert 'model.dtype = "float32"' in str(error.value.hint)
