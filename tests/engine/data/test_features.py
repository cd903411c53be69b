"""Numeric features: normalization's laws, every kind of file, cells that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from engine.data.features import classes, load_features, moments
from engine.errors import Unavailable, UsageError

ROWS = [{"a": 1.0, "b": 5.0, "y": "no"}, {"a": 2.0, "b": 5.0, "y": "yes"}, {"a": 6.0, "b": 5.0, "y": "no"}]


def write(folder: Path, kind: str) -> str:
    file = folder / f"t.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), file)
    else:
        comma = "," if kind == "csv" else "\t"
        file.write_text("\n".join(comma.join(map(str, row)) for row in [ROWS[0].keys(), *(r.values() for r in ROWS)]))
    return f"file:{file}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, kind: str) -> None:
    found = load_features(write(tmp_path, kind), label="y", normalize=True)
    raw = load_features(write(tmp_path, kind), label="y", normalize=False)
    assert (found.columns, found.x.dtype, found.y.dtype) == (("a", "b"), np.float32, np.int64)
    assert found.y.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.x.mean(0), [0, 0], atol=1e-7)
    np.testing.assert_allclose(found.x.std(0), [1, 0], atol=1e-6)
    np.testing.assert_allclose(found.x * found.std + found.mean, raw.x, rtol=1e-6)
    assert raw.x.tolist() == [[1, 5], [2, 5], [6, 5]]
    assert (raw.mean.tolist(), raw.std.tolist()) == ([0, 0], [1, 1])
    assert found.fingerprint != raw.fingerprint


def test_the_fingerprint_is_of_the_data(tmp_path: Path) -> None:
    first, second = (load_features(write(tmp_path, kind), label="y", normalize=True) for kind in ("csv", "parquet"))
    assert first.fingerprint == second.fingerprint


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(-1e6, 1e6))
def test_moments(column: list[float], constant: float) -> None:
    x = np.array([[value, constant] for value in column])
    mean, std = moments(x)
    assert (std > 0).all()
    scaled = (x - mean) / std
    assert (scaled[:, 1] == 0).all()
    assert np.isfinite(scaled).all()


def test_classes_count_numbers_before_words() -> None:
    assert classes(["10", "9", "x", "9.0", "-1"]).tolist() == [2, 1, 3, 1, 0]
    assert classes([True, False]).tolist() == [1, 0]


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "", "abc", "1e999"])
def test_cells_that_are_no_numbers_are_named(tmp_path: Path, cell: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"y,good,bad\n0,1,2\n1,1,{cell}\n")
    with pytest.raises(Unavailable, match="column 'bad' is not a finite number") as caught:
        load_features(f"file:{file}", label="y", normalize=True)
    assert (caught.value.where or "").endswith("t.csv, line 3")


def test_what_cannot_be_features(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("label\n1\n")
    with pytest.raises(Unavailable, match="no columns beside 'label'"):
        load_features(f"file:{file}", label="label", normalize=True)
    with pytest.raises(UsageError, match="no column 'labels'") as caught:
        load_features(f"file:{file}", label="labels", normalize=True)
    assert "did you mean 'label'" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="features cannot come from"):
        load_features("demo", label="y", normalize=True)
