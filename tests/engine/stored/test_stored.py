"""Values of single matrices: read as they were written, described and compared by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from engine import inspection
from engine.errors import Unavailable
from engine.inspection import ModelSummary
from engine.stored.difference import difference
from engine.stored.portrait import BINS, portrait
from engine.stored.reading import Stored, read

RANDOM = np.random.default_rng(0)


def stored(summary: ModelSummary, name: str, **how: int) -> Stored:
    return read(summary, next(t for t in summary.tensors if t.name == name), **how)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_values_of_a_safetensors_file_are_those_written(dtype: type, tmp_path: Path) -> None:
    values = RANDOM.normal(size=(12, 8)).astype(dtype)
    save_file({"first": np.ones((3, 5), dtype), "w": values, "last": np.zeros(2, dtype)}, tmp_path / "m.safetensors")
    summary = inspection.inspect(str(tmp_path / "m.safetensors"))
    found = stored(summary, "w")
    assert found.step == 1
    assert np.array_equal(found.values_RC, values.astype(np.float32))
    assert stored(summary, "last").values_RC.shape == (1, 2)


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    values = torch.randn(6, 8).to(torch.bfloat16)
    save({"w": values}, tmp_path / "m.safetensors")
    found = stored(inspection.inspect(str(tmp_path / "m.safetensors")), "w")
    assert np.array_equal(found.values_RC, values.float().numpy())


def test_a_large_matrix_is_read_in_rows_that_are_evenly_spread(tmp_path: Path) -> None:
    values = np.arange(80, dtype=np.float32).reshape(10, 8)
    save_file({"w": values}, tmp_path / "m.safetensors")
    found = stored(inspection.inspect(str(tmp_path / "m.safetensors")), "w", most=30)
    assert found.step == 3
    assert np.array_equal(found.values_RC, values[::3])


def interleaved(values_RC: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp's converter stores them (`LlamaModel.permute`)."""
    rows, columns = values_RC.shape
    return values_RC.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_a_gguf_file_gives_transformers_rows(kind: str, tmp_path: Path) -> None:
    queries, values = RANDOM.normal(size=(2, 16, 64)).astype(np.float32)
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    quantization = GGMLQuantizationType[kind]
    expected = {}
    for name, matrix, heads in (("attn_q", queries, 2), ("attn_k", queries[:8], 1), ("attn_v", values, 0)):
        coded = quants.quantize(interleaved(matrix, heads) if heads else matrix, quantization)
        writer.add_tensor(f"blk.0.{name}.weight", coded, raw_dtype=quantization)
        expected[f"blk.0.{name}.weight"] = quants.dequantize(quants.quantize(matrix, quantization), quantization)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    summary = inspection.inspect(str(tmp_path / "m.gguf"))
    for name, matrix in expected.items():
        assert np.array_equal(stored(summary, name).values_RC, matrix)
        assert np.array_equal(stored(summary, name, most=512).values_RC, matrix[:: 2 if len(matrix) > 8 else 1])


def test_codes_are_not_taken_for_values(tmp_path: Path) -> None:
    save_file({"packed": np.ones((4, 4), np.int32)}, tmp_path / "m.safetensors")
    with pytest.raises(Unavailable, match="I32"):
        stored(inspection.inspect(str(tmp_path / "m.safetensors")), "packed")


def test_a_portrait_by_hand() -> None:
    values = np.array([[1, 0, 0, -1], [0, 2, -2, 0]], np.float32)
    seen = portrait(values)
    assert (seen.weights, seen.zeros, seen.mean, seen.low, seen.high) == (8, 4, 0.0, -2.0, 2.0)
    assert seen.deviation == pytest.approx(np.sqrt(2.5))
    assert sum(seen.counts) == 4
    assert seen.beyond == 0
    assert seen.kept == {4: (0, 0, 1, 0, 0)}
    assert seen.pattern == "2:4"
    assert seen.corner.tolist() == (values != 0).tolist()


@given(st.integers(1, 6), st.sampled_from([3, 4, 8, 16]), st.floats(0, 1))
def test_laws_of_a_portrait(rows: int, columns: int, share: float) -> None:
    random = np.random.default_rng(rows * columns)
    values = random.normal(size=(rows, columns)).astype(np.float32) * (random.random((rows, columns)) >= share)
    seen = portrait(values)
    assert len(seen.counts) == BINS
    assert sum(seen.counts) + seen.beyond + seen.zeros == seen.weights == rows * columns
    for group, kept in seen.kept.items():
        assert columns % group == 0
        assert sum(kept) == pytest.approx(1)
        assert sum(n * part for n, part in enumerate(kept)) / group == pytest.approx(1 - seen.zeros / seen.weights)


def test_a_difference_by_hand() -> None:
    before, after = np.array([[3, 4]], np.float32), np.array([[3, 0]], np.float32)
    found = difference(before, after)
    assert (found.zeros_before, found.zeros_after, found.norm, found.norm_before) == (0.0, 0.5, 4.0, 5.0)
    assert found.relative == 0.8
    assert found.cosine == pytest.approx(0.6)
    same = difference(before, before)
    assert (same.norm, same.cosine) == (0.0, pytest.approx(1.0))
    nothing = difference(np.zeros((1, 2), np.float32), after)
    assert (nothing.relative, nothing.cosine) == (np.inf, 0.0)
