"""Which runs have looked at which test rows, in the user's state folder (SQLite): a figure on rows that earlier runs have shown
figures of is no longer an untouched one.

A run looks once, however often and with however many models and prompts it scores the rows: it chooses on other rows, and only
who reads its figures may choose by them, for the next run. A resumed run goes on looking. What counts are rows, not splits: one
row less is no fresh split. The rows of every split that differs are kept once, as digests.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import files
from engine.data.rows import Row

TABLES = (
    """CREATE TABLE IF NOT EXISTS looks
(split TEXT, run TEXT, look INTEGER, task TEXT, model TEXT, time REAL, PRIMARY KEY (split, run))""",
    "CREATE TABLE IF NOT EXISTS splits (split TEXT PRIMARY KEY, rows BLOB)",
)
EARLIER = "SELECT split, run FROM looks WHERE run != ? AND rowid < ?"
NEVER = 2**62  # no entry has such a number


class Look(NamedTuple):
    """The number of a run's look at test rows, 1 for the first, and how many of them other runs have seen before."""

    number: int
    seen: int


def look(rows: Iterable[Row], run: str, task: str, model: str) -> Look:
    """The run's look at these test rows: one more than the most other runs that have seen any one of them; the same number
    however often it is asked.

    Raises OSError or sqlite3.Error where the folder cannot be used.
    """
    folder, lines = files.state_folder(), sorted(json.dumps(row.fields, sort_keys=True) for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "looks.sqlite", timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")  # no other run reads or writes until this one is counted
        found = _counted(connection, lines, run, (task, model, time.time()))
        connection.execute("COMMIT")
        return found
    finally:
        connection.close()


def _counted(connection: sqlite3.Connection, lines: list[str], run: str, about: tuple[str, str, float]) -> Look:
    """The look, entered where it is new."""
    which, own = hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest(), digests(lines)
    for table in TABLES:
        connection.execute(table)
    connection.execute("INSERT OR IGNORE INTO splits VALUES (?, ?)", (which, np.unique(own).tobytes()))
    known = connection.execute("SELECT rowid, look FROM looks WHERE split = ? AND run = ?", (which, run)).fetchone()
    counts = earlier(connection, own, run, known[0] if known else NEVER)
    number = int(known[1] if known else 1 + counts.max(initial=0))
    if not known:
        connection.execute("INSERT INTO looks VALUES (?, ?, ?, ?, ?, ?)", (which, run, number, *about))
    return Look(number, int((counts > 0).sum()))


def earlier(connection: sqlite3.Connection, own: NDArray[np.uint64], run: str, before: int) -> NDArray[np.int64]:
    """How many other runs have seen each of the rows, of the looks entered `before` that one. Of a look by an older version the
    rows are known where somebody has looked at the same split since.
    """
    kept = connection.execute("SELECT split, rows FROM splits")
    shared = {split: np.isin(own, np.frombuffer(blob, dtype=np.uint64)) for split, blob in kept}
    runs: dict[str, NDArray[np.bool_]] = {}
    for split, other in connection.execute(EARLIER, (run, before)):
        if split in shared:
            runs[other] = runs.get(other, False) | shared[split]
    counts = np.zeros(len(own), dtype=np.int64)
    for seen in runs.values():
        counts += seen
    return counts


def digests(lines: Iterable[str]) -> NDArray[np.uint64]:
    """A number a row, the same for the same inputs under whatever template and label words."""
    return np.frombuffer(b"".join(hashlib.blake2b(line.encode(), digest_size=8).digest() for line in lines), np.uint64)
