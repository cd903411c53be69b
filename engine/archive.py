"""Every artifact that was measured, of all runs, in one SQLite file of the state folder; and which of them are worth having.

Artifacts are comparable when they come from the same model and were measured on the same windows of the same text, their speeds
on the same device and number of threads. A perplexity is lower than another where the 95% interval of their paired difference
over windows leaves zero out. No torch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from engine import files
from engine.errors import Unavailable, did_you_mean

TABLE = "artifacts"


@dataclass(frozen=True)
class Measured:
    """One artifact: of which model, from which run's folder, on what it was measured, and the figures; None for what was not
    measured. `low` and `high` bound the perplexity, `losses` are the means of its windows.

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
    device: str
    threads: int
    bytes: int
    perplexity: float | None
    decode: float | None
    low: float | None = None
    high: float | None = None
    losses: tuple[float, ...] = ()


COLUMNS = tuple(field.name for field in fields(Measured))
NONE_KNOWN = {"device": "''", "losses": "'[]'"}
"""what an artifact has that was kept before there was the column; NULL in the others"""


def add(artifact: Measured) -> None:
    """Keeps an artifact; one of the same run and path is replaced."""
    with _open() as archive:
        marks = ", ".join(f":{name}" for name in COLUMNS)
        values = asdict(artifact) | {"losses": json.dumps(artifact.losses)}
        archive.execute(f"INSERT OR REPLACE INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks})", values)
        archive.commit()


def of_model(model: str) -> list[Measured]:
    """A model's artifacts that are still there and have a perplexity, in the order of measurement: all those on the text that
    was used last.
    """
    with _open() as archive:
        rows = archive.execute(
            f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE model = ? AND perplexity IS NOT NULL ORDER BY time",
            (model,),
        ).fetchall()
    kept = [replace(Measured(*row), losses=tuple(json.loads(row[-1]))) for row in rows]
    artifacts = [artifact for artifact in kept if Path(artifact.run, artifact.path).exists()]
    return [artifact for artifact in artifacts if artifact.text == artifacts[-1].text]


def found(model: str) -> list[Measured]:
    """`of_model` for people. Raises Unavailable where there are none, and where the file cannot be read."""
    try:
        artifacts, known = of_model(model), models()
    except (OSError, sqlite3.Error) as error:
        message = f"the archive of artifacts cannot be read: {error}"
        hint = "move it away; runs begin a new one"
        raise Unavailable(message, where=str(files.archive_file()), hint=hint) from error
    if not artifacts and model in known:
        hint = "export it anew: compress-tui run with a step `export`"
        raise Unavailable("no artifact of this model that has a perplexity is still there", where=model, hint=hint)
    if not artifacts:
        hint = did_you_mean(model, known)
        raise Unavailable("no exported artifact of this model was measured", where=model, hint=hint)
    return artifacts


def models() -> list[str]:
    """Every model that has artifacts."""
    with _open() as archive:
        return [row[0] for row in archive.execute(f"SELECT DISTINCT model FROM {TABLE} ORDER BY model")]


def front(artifacts: Sequence[Measured]) -> list[bool]:
    """For every artifact whether none of the others is at least as good in bytes, perplexity and speed, and better in one."""
    return [not any(dominates(other, one) for other in artifacts) for one in artifacts]


def dominates(one: Measured, other: Measured) -> bool:
    """Whether one artifact is nowhere worse and somewhere better; a speed that was not measured counts as none."""
    costs = [(one.bytes, other.bytes), (0.0, gap(one, other))]
    if (one.device, one.threads) == (other.device, other.threads):
        costs.append((-(one.decode or 0.0), -(other.decode or 0.0)))
    return any(a < b for a, b in costs) and not any(b < a for a, b in costs)


def gap(one: Measured, other: Measured) -> float:
    """How much higher the other's perplexity is: in logarithms and 0 inside the noise where both have the same windows."""
    from engine.statistics import mean_difference

    assert one.perplexity is not None
    assert other.perplexity is not None
    found = mean_difference(other.losses, one.losses)
    if found is None:
        return other.perplexity - one.perplexity
    difference, low, high = found
    return 0.0 if low <= 0 <= high else difference


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    """The archive; one of an older version gets the columns that it lacks, empty."""
    file = files.archive_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=30)) as archive:
        keys = ", ".join(COLUMNS)
        archive.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({keys}, PRIMARY KEY (run, path))")
        known = {name for _, name, *_ in archive.execute(f"PRAGMA table_info({TABLE})")}
        for name in COLUMNS:
            if name not in known:
                archive.execute(f"ALTER TABLE {TABLE} ADD COLUMN {name} DEFAULT {NONE_KNOWN.get(name, 'NULL')}")
        yield archive
