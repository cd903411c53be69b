"""Which runs have looked at which test rows, in the user's state folder (SQLite): a figure on rows that earlier runs have shown
figures of is no longer an untouched one.

A run looks once, however often and with however many models and prompts it scores the rows: it chooses on other rows, and only
who reads its figures may choose by them, for the next run. A resumed run goes on looking.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable

from engine import files
from engine.data.rows import Row

TABLE = """CREATE TABLE IF NOT EXISTS looks
(split TEXT, run TEXT, look INTEGER, task TEXT, model TEXT, time REAL, PRIMARY KEY (split, run))"""

NEXT = "INSERT OR IGNORE INTO looks SELECT ?, ?, count(*) + 1, ?, ?, ? FROM looks WHERE split = ?"


def look(rows: Iterable[Row], run: str, task: str, model: str) -> int:
    """The number of the run's look at these test rows, 1 where it is the first to look; the same however often it is asked.

    Raises OSError or sqlite3.Error where the folder cannot be used.
    """
    folder, which = files.state_folder(), split(rows)
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "looks.sqlite", timeout=30)
    try:
        with connection:
            connection.execute(TABLE)
            new = (which, run, task, model, time.time(), which)
            connection.execute(NEXT, new)
            found = connection.execute("SELECT look FROM looks WHERE split = ? AND run = ?", (which, run)).fetchone()
        return int(found[0])
    finally:
        connection.close()


def split(rows: Iterable[Row]) -> str:
    """The same for the same inputs in whatever order, under whatever template and label words."""
    lines = sorted(json.dumps(row.fields, sort_keys=True) for row in rows)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
