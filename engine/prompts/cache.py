"""Scores on disk, by key, in the user's cache folder; safe for several processes (SQLite)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from engine import files


class ScoreCache:
    """A table of key -> list of numbers."""

    def __init__(self) -> None:
        folder = files.cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(folder / "scores.sqlite", timeout=30)
        with self._connection:
            self._connection.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, numbers TEXT)")

    def get(self, keys: Sequence[str]) -> dict[str, list[float]]:
        """What is known of `keys`."""
        found: dict[str, list[float]] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, numbers FROM scores WHERE key IN ({marks})"
            found |= {key: json.loads(numbers) for key, numbers in self._connection.execute(query, part)}
        return found

    def put(self, scores: Mapping[str, Iterable[float]]) -> None:
        rows = [(key, json.dumps(list(numbers))) for key, numbers in scores.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
