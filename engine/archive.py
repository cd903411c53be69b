"""Every artifact that was measured, of all runs, in one SQLite file of the state folder; and which of them are worth having.

Artifacts are comparable when they come from the same model and were measured on the same windows of the same text. No torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields

from engine import files


@dataclass(frozen=True)
class Measured:
    """One artifact: of which model, from which run, on what it was measured, and the figures; None for what was not measured.

    `steps` says in a few words what was done before it was written.
    """

    model: str
    text: str
    run: str
    path: str
    profile: str
    format: str
    steps: str
    time: float
    threads: int
    bytes: int
    perplexity: float | None
    decode: float | None


COLUMNS = tuple(field.name for field in fields(Measured))


def add(artifact: Measured) -> None:
    """Keeps an artifact; one of the same run and path is replaced."""
    with _open() as archive:
        marks = ", ".join(f":{name}" for name in COLUMNS)
        archive.execute(f"INSERT OR REPLACE INTO artifacts ({', '.join(COLUMNS)}) VALUES ({marks})", asdict(artifact))
        archive.commit()


def of_model(model: str) -> list[Measured]:
    """A model's artifacts that have a perplexity, in the order of measurement: all those on the text that was used last."""
    with _open() as archive:
        found = archive.execute(
            f"SELECT {', '.join(COLUMNS)} FROM artifacts WHERE model = ? AND perplexity IS NOT NULL ORDER BY time",
            (model,),
        ).fetchall()
    artifacts = [Measured(*row) for row in found]
    return [artifact for artifact in artifacts if artifact.text == artifacts[-1].text]


def models() -> list[str]:
    """Every model that has artifacts."""
    with _open() as archive:
        return [row[0] for row in archive.execute("SELECT DISTINCT model FROM artifacts ORDER BY model")]


def front(artifacts: Sequence[Measured]) -> list[bool]:
    """For every artifact whether none of the others is at least as good in bytes, perplexity and speed, and better in one."""
    return [not any(dominates(other, one) for other in artifacts) for one in artifacts]


def dominates(one: Measured, other: Measured) -> bool:
    """Whether one artifact is nowhere worse and somewhere better; a speed that was not measured counts as none."""
    pairs = list(zip(_costs(one), _costs(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _costs(artifact: Measured) -> tuple[float, float, float]:
    assert artifact.perplexity is not None
    return artifact.bytes, artifact.perplexity, -(artifact.decode or 0.0)


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    file = files.archive_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=30)) as archive:
        keys = ", ".join(COLUMNS)
        archive.execute(f"CREATE TABLE IF NOT EXISTS artifacts ({keys}, PRIMARY KEY (run, path))")
        yield archive
