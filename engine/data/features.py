"""Numeric features with a class each, for models that are not language models.

Reads a file's columns as numbers and normalizes them; what the numbers mean is the model's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data import tables
from engine.data.tasks import label_text
from engine.errors import Unavailable, UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """Features x float32 [rows, columns] of classes y int64 [rows]; `mean` and `std` [columns] normalized them."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    columns: tuple[str, ...]
    fingerprint: str
    mean: Floats
    std: Floats


def load_features(source: str, *, label: str, normalize: bool) -> Features:
    """The table behind "file:PATH" (csv, tsv, jsonl, parquet): column `label` is the class, all others are features.

    Classes are numbered in the order of their values, numbers before words. With `normalize` every column gets zero
    mean and unit variance, a constant one zeros; without, `mean` is 0 and `std` 1.
    Raises Unavailable for a cell that is no finite number, UsageError for an unknown label column.
    """
    if not source.startswith("file:"):
        raise UsageError(f"features cannot come from {source!r}", hint='"file:PATH" of a csv, tsv, jsonl or parquet')
    table = tables.read(source)
    y = classes(table.column(label))
    columns = tuple(name for name in table.columns if name != label)
    if not columns:
        raise Unavailable(f"no columns beside {label!r}", where=table.where)
    x = np.array([[_number(row.get(name), table, index, name) for name in columns]
                  for index, row in enumerate(table.rows)])  # fmt: skip
    mean, std = moments(x) if normalize else (np.zeros(len(columns)), np.ones(len(columns)))
    x32 = ((x - mean) / std).astype(np.float32)
    digest = hashlib.sha256(x32.tobytes() + y.tobytes() + "\n".join(columns).encode()).hexdigest()[:16]
    return Features(x32, y, columns, digest, mean, std)


def classes(labels: Sequence[Any]) -> NDArray[np.int64]:
    """Labels [rows] as class numbers 0, 1, ... int64 [rows]."""
    texts = [label_text(_plain(label)) for label in labels]
    numbers = {text: number for number, text in enumerate(sorted(set(texts), key=_order))}
    return np.array([numbers[text] for text in texts], dtype=np.int64)


def moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column of x [rows, columns]; 1 for a column that is constant."""
    constant = x.min(axis=0) == x.max(axis=0)
    mean = np.where(constant, x[0], x.mean(axis=0))
    std = x.std(axis=0)
    return mean, np.where(constant | (std == 0), 1.0, std)  # squares of tiny differences may underflow


def _order(text: str) -> tuple[bool, float, str]:
    number = _float(text)
    return number is None, number or 0.0, text


def _plain(label: Any) -> Any:
    """A number written as text ("1.0") as a number, so that one class is not two."""
    number = _float(label) if isinstance(label, str) else None
    return label if number is None else number


def _number(cell: Any, table: tables.Table, index: int, column: str) -> float:
    number = _float(cell)
    if number is None:
        shown = "an empty cell" if cell in (None, "") else f"{cell!r}"
        hint = "every column but the label must hold finite numbers"
        raise Unavailable(f"{shown} in column {column!r} is not a finite number", where=table.place(index), hint=hint)
    return number


def _float(cell: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
