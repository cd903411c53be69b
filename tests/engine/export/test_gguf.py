"""GGUF files: blocks hold codes and grids exactly, transformers reads the model back, what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from fixtures.models import subject, tokenizer
from fixtures.scripts import said
from fixtures.workspaces import logits, workspace
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from engine.errors import UsageError
from engine.export.gguf import blocks, model, vocabulary
from engine.export.runtime import process
from engine.export.runtime.spec import Spec
from engine.gguf_header import read_header
from engine.inspection import demo_model
from engine.profile import ModelOptions
from engine.quantization import step
from engine.quantization.grid import Codes, Format, span
from engine.quantization.options import QuantizeOptions
from engine.registry import FORMATS
from engine.subject import Subject

READING = ModelOptions(source="x", device="cpu", dtype="float32")
KINDS = {"F16": 1e-3, "Q8_0": 0.01, "Q4_0": 0.15, "Q4_1": 0.1}
"""types, and the largest relative error of rounding to them"""


def llama(**changes: Any) -> Subject:
    """Wide enough for every head to have dimensions whose order matters."""
    return subject("llama", hidden_size=64, intermediate_size=96, **changes)


def written(mine: Subject, tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / kind
    folder.mkdir()
    model.write(mine, folder, kind)
    return folder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_reads_back_as_what_was_written(kind: str, tied: bool, tmp_path: Path) -> None:
    mine = llama(tie_word_embeddings=tied)
    again = model.read(READING, written(mine, tmp_path, kind))
    for (name, one), (other_name, other) in zip(mine.tensors(), again.tensors(), strict=True):
        assert name == other_name
        assert (one - other).norm() <= KINDS[kind] * one.norm(), name
    if kind == "F16":
        torch.testing.assert_close(logits(again), logits(mine), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_codes_go_into_the_file_as_they_are(kind: str, tmp_path: Path) -> None:
    mine, fits = llama(tie_word_embeddings=True), blocks.MATCHING[kind]
    for parameter in mine.module.parameters():
        parameter[torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = 0
    options = QuantizeOptions(use="quantize", method="rtn", bits=fits.bits, symmetric=True)
    step.run(workspace(tmp_path / "run", mine), options)
    again = model.read(READING, written(mine, tmp_path, kind))
    for name, one in mine.tensors():
        if mine.quantized is not None and name in mine.quantized.formats:
            assert torch.equal(dict(again.tensors())[name], one), name


def test_asymmetric_codes_are_nearly_kept(tmp_path: Path) -> None:
    mine = llama()
    step.run(workspace(tmp_path / "run", mine), QuantizeOptions(use="quantize", method="rtn"))
    again = dict(model.read(READING, written(mine, tmp_path, "Q4_1")).tensors())
    assert mine.quantized is not None
    for name in mine.quantized.formats:
        one = dict(mine.tensors())[name]
        assert (again[name] - one).abs().max() <= 1e-3 * one.abs().max()


@given(st.integers(0, 2**31), st.integers(1, 15), st.sampled_from([1e-6, 0.01, 30.0]))
def test_weights_on_a_grid_of_the_type_come_back_exactly(seed: int, used: int, size: float) -> None:
    """Also when the codes of a block span only some of the sixteen."""
    random = np.random.default_rng(seed)
    first = random.integers(0, 16 - used, (8, 1))
    codes = first + random.integers(0, used + 1, (8, 32))
    d, m = (
        (size * values).astype(np.float16) for values in (random.random((8, 1)) + 0.1, random.standard_normal((8, 1)))
    )
    weight = d.astype(np.float32) * codes.astype(np.float32) + m.astype(np.float32)
    stored = blocks.rounded(weight, "Q4_1")
    back = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q4_1)
    if size > 1e-5:  # below, float16 has few digits, and the sum of two may need more than any grid has
        assert np.array_equal(back, weight)
    assert np.abs(back - weight).max() <= size


@pytest.mark.parametrize("kind", blocks.MATCHING)
def test_blocks_of_codes_mean_the_codes(kind: str) -> None:
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(0))
    codes = Codes.nearest(weight, span(weight, blocks.MATCHING[kind]))
    back = gguf.quants.dequantize(blocks.coded(codes, kind), gguf.GGMLQuantizationType[kind])
    exact = 0 if kind != "Q4_1" else 1e-3
    torch.testing.assert_close(torch.from_numpy(back), codes.values(), atol=exact, rtol=0)


def test_the_header_says_what_llama_cpp_needs(tmp_path: Path) -> None:
    header = read_header(written(llama(), tmp_path, "Q4_0") / model.FILE)
    said = header.metadata
    assert said["general.architecture"] == "llama"
    assert (said["llama.block_count"], said["llama.attention.head_count"], said["llama.attention.head_count_kv"]) == (
        2,
        4,
        2,
    )
    assert (said["llama.rope.dimension_count"], said["llama.feed_forward_length"]) == (16, 96)
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert (said["tokenizer.ggml.bos_token_id"], said["tokenizer.ggml.add_bos_token"]) == (0, False)
    assert "tokenizer.ggml.tokens" in said
    types = {tensor.name: tensor.dtype for tensor in header.tensors}
    assert types["blk.1.ffn_down.weight"] == "Q4_0"
    assert (types["token_embd.weight"], types["output_norm.weight"]) == ("Q8_0", "F32")


def test_the_tokenizer_read_back_gives_the_same_ids(tmp_path: Path) -> None:
    again = model.read(READING, written(llama(), tmp_path, "F16"))
    text = "a text, with yes and no"
    assert again.tokenizer is not None
    assert again.tokenizer(text).input_ids == tokenizer()(text).input_ids


REFUSED = {
    "another architecture": (lambda: subject("gpt2"), None, "gguf_f16", "Llama-family models, not gpt2"),
    "biases": (lambda: subject("llama", mlp_bias=True), None, "gguf_f16", "bias"),
    "other codes": (lambda: llama(), Format(3, 32, True), "gguf_q4_0", "round once more"),
    "a width": (lambda: subject("llama", intermediate_size=72), None, "gguf_q8_0", "do not divide the width 72"),
    "more tokens than embeddings": (
        lambda: subject("llama", vocab_size=500),
        None,
        "gguf_f16",
        "tokens up to number 511, and the model embeddings of 500",
    ),
    "an activation": (lambda: subject("llama", hidden_act="gelu"), None, "gguf_f16", "not the activation gelu"),
    "a sliding window": (
        lambda: subject("llama", sliding_window=16),
        None,
        "gguf_f16",
        "not a sliding window of 16 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_file_cannot_hold_is_refused(case: str) -> None:
    make, form, name, message = REFUSED[case]
    with pytest.raises(UsageError, match=message):
        FORMATS.load(name).FORMAT.check(make(), form)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)], "smollm"),
        ([pre_tokenizers.Split(Regex(next(iter(vocabulary.SPLITS))), "isolated"),
          pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)], "llama-bpe"),
        ([pre_tokenizers.Whitespace()], None),
    ],
)  # fmt: skip
def test_the_way_of_splitting_has_llama_cpp_s_name(steps: list[Any], name: str | None) -> None:
    import copy

    words = copy.deepcopy(tokenizer())
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    mine = Subject(llama().module, "x", "x", words)
    if name is None:
        with pytest.raises(UsageError, match="this one does not"):
            vocabulary.pre(mine)
    else:
        assert vocabulary.pre(mine) == name


def test_llama_cpp_goes_on_as_transformers_does(tmp_path: Path) -> None:
    """Greedily, in half precision; where COMPRESS_TUI_LLAMACPP names a folder with node-llama-cpp."""
    if process.missing("llamacpp"):
        pytest.skip("llama.cpp is no part of the project: COMPRESS_TUI_LLAMACPP names no folder with node-llama-cpp")
    mine = llama(tie_word_embeddings=True)
    folder = written(mine, tmp_path, "F16")
    prompt = list(range(100, 112))
    spec = Spec(
        runtime="llamacpp", form="gguf_f16", folder=str(folder), threads=1, prompt=prompt, decode=32, prefill=prompt, counts=[2]
    )  # fmt: skip
    answer = process.run(spec)
    out = mine.module.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=32, min_new_tokens=32, pad_token_id=0
    )
    assert len(answer.tokens) == 32
    assert answer.tokens == out[0, len(prompt) :].tolist()
    assert answer.decode
    [(threads, decode, prefill)] = answer.speeds
    assert threads == 2
    assert min(decode, prefill) > 0
    assert answer.memory > 0


def test_the_script_beside_the_weights_asks_llama_cpp_of_this_file(tmp_path: Path) -> None:
    """A stand-in for llama-cpp-python, which is no part of the project, says what it is asked."""
    folder = written(llama(), tmp_path, "F16")
    (tmp_path / "llama_cpp.py").write_text(
        "class Llama:\n"
        "    def __init__(self, model_path, verbose):\n        print(model_path)\n"
        "    def create_completion(self, prompt, max_tokens, temperature, stream):\n"
        "        assert (temperature, stream) == (0.0, True)\n"
        "        return [{'choices': [{'text': f'{prompt} {i}'}]} for i in range(max_tokens)]\n"
    )
    script = folder / FORMATS.load("gguf_f16").FORMAT.script.name
    output, errors = said(script, "on", "2", without=["torch", "transformers"], beside=tmp_path)
    assert output == f"{folder / model.FILE}\non 0on 1\n", errors


class Recorder:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[Any, Any]] = {}

    def add_tensor(self, name: str, values: Any, raw_dtype: Any = gguf.GGMLQuantizationType.F32) -> None:
        self.stored[name] = (values, raw_dtype)


def test_the_demo_model_s_own_weights_are_reproduced_exactly() -> None:
    """Its file is Q4_1: all of the first, a middle and the last block, the last norm, and rows of the embeddings."""
    file = demo_model()
    header = read_header(file)
    kept = {"token_embd", "output_norm", "blk.0", "blk.14", "blk.29"}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    theirs = {
        f"{names.get_name(name)}.weight": f"{name}.weight"
        for name in ("model.embed_tokens", "model.norm", *(f"model.layers.{block}.{part}" for block in range(30) for part in (
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
            "mlp.down_proj", "input_layernorm", "post_attention_layernorm")))
    }  # fmt: skip
    config = SimpleNamespace(num_attention_heads=header.metadata["llama.attention.head_count"],
                             num_key_value_heads=header.metadata["llama.attention.head_count_kv"])  # fmt: skip
    mine: Any = SimpleNamespace(module=SimpleNamespace(config=config), quantized=None)
    writer, seen = Recorder(), set()
    for tensor in header.tensors:
        if kept.isdisjoint((tensor.name.split(".")[0], tensor.name.rpartition(".")[0].rpartition(".")[0])):
            continue
        weight = _weight(file, header.begin, tensor)
        name = theirs[tensor.name]
        seen.add(name.split(".")[-2])
        heads = model.heads_of(mine, name)
        if heads:  # as transformers has it: the halves of a head, not its neighbours
            weight = weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        model.add_tensor(writer, mine, name, torch.from_numpy(weight), tensor.name, "Q4_1")
        stored, kind = writer.stored[tensor.name]
        back = stored if kind == gguf.GGMLQuantizationType.F32 else gguf.quants.dequantize(stored, kind)
        assert kind.name == tensor.dtype
        assert np.array_equal(back, _weight(file, header.begin, tensor)), tensor.name
    assert len(writer.stored) == 3 * 9 + 2
    assert len(seen) == 11


def _weight(file: Path, begin: int, tensor: Any) -> Any:
    """A tensor of the file in float32; of the embeddings the first rows."""
    kind = gguf.GGMLQuantizationType[tensor.dtype]
    of_block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = ([*tensor.shape[:-1], 1][0], tensor.shape[-1])
    rows = min(rows, 4096)
    width = columns // of_block * size
    with file.open("rb") as opened:
        opened.seek(begin + tensor.offset)
        raw = np.frombuffer(opened.read(rows * width), dtype=np.uint8).reshape(rows, width)
    if kind == gguf.GGMLQuantizationType.F32:
        return raw.reshape(-1).view(np.float32).copy()
    return gguf.quants.dequantize(raw, kind)
