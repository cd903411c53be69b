"""Every artifact that was measured, of all runs, in one SQLite file of the state folder; and which of them are worth having.

Artifacts are comparable when they come from the same model and were measured on the same windows of the same text, their speeds
on the same device and number of threads. A perplexity is lower than another where the 95% interval of their paired difference
over windows leaves zero out: of three artifacts the first may be a tie with the second and the second with the third, and the
first not with the third. No torch.
"""

from __future__ import annotations

import json
import os
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
    measured. `low` and `high` bound the perplexity, `losses` are the means of its windows, and `data` is equal where these are
    the same ones; "" where that was not noted yet.

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
    data: str = ""
    losses: tuple[float, ...] = ()


COLUMNS = tuple(field.name for field in fields(Measured))
NONE_KNOWN = {"device": "''", "data": "''", "losses": "'[]'"}
"""what an artifact has that was kept before there was the column; NULL in the others"""


def add(artifact: Measured) -> None:
    """Keeps an artifact; one of the same run and path is replaced."""
    with _open() as archive:
        marks = ", ".join(f":{name}" for name in COLUMNS)
        values = asdict(artifact) | {"losses": json.dumps(artifact.losses)}
        archive.execute(f"INSERT OR REPLACE INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks})", values)
        archive.commit()


def still_there(model: str) -> list[Measured]:
    """A model's artifacts that are still there and have a perplexity, on whatever text, in the order of measurement.

    A folder that has none under its path has those that were kept under its name as seen from here, as older versions did.
    """
    with _open() as archive:
        found = _entries(archive, model)
        if not found and Path(model).is_absolute():
            found = _entries(archive, os.path.relpath(model))
    return [artifact for artifact in found if Path(artifact.run, artifact.path).exists()]


def _entries(archive: sqlite3.Connection, model: str) -> list[Measured]:
    rows = archive.execute(
        f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE model = ? AND perplexity IS NOT NULL ORDER BY time", (model,)
    ).fetchall()
    return [replace(Measured(*row), losses=tuple(json.loads(row[-1]))) for row in rows]


def of_model(model: str) -> list[Measured]:
    """Of the artifacts that are still there all those on the text that was used last."""
    return on_last_text(still_there(model))


def on_last_text(artifacts: Sequence[Measured]) -> list[Measured]:
    """Those on the text that was used last, and on the very windows of it, as far as is known."""
    last = artifacts[-1] if artifacts else None
    same = [one for one in artifacts if last and one.text == last.text]
    return [one for one in same if last and (one.data == last.data or "" in (one.data, last.data))]


def found(model: str) -> tuple[list[Measured], int]:
    """`of_model` for people, and how many more are still there that were measured on other text. Raises Unavailable where there
    are none, and where the file cannot be read.
    """
    try:
        every, known = still_there(model), models()
    except (OSError, sqlite3.Error) as error:
        message = f"the archive of artifacts cannot be read: {error}"
        hint = "move it away; runs begin a new one"
        raise Unavailable(message, where=str(files.archive_file()), hint=hint) from error
    artifacts = on_last_text(every)
    if not artifacts and model in known:
        hint = "export it anew: compress-tui run with a step `export`"
        raise Unavailable("no artifact of this model that has a perplexity is still there", where=model, hint=hint)
    if not artifacts:
        hint = did_you_mean(model, known) if known else "a run with an export step and [evaluate] measures one"
        raise Unavailable("no exported artifact of this model was measured", where=model, hint=hint)
    return artifacts, len(every) - len(artifacts)


def on_text(artifacts: Sequence[Measured], more: int) -> str:
    """What they were measured on, and how many more there are on another text or number of windows."""
    return f"measured on {artifacts[-1].text}" + (f" ({more} more measured on other text)" if more else "")


def models() -> list[str]:
    """Every model that has artifacts."""
    with _open() as archive:
        return [row[0] for row in archive.execute(f"SELECT DISTINCT model FROM {TABLE} ORDER BY model")]


def front(artifacts: Sequence[Measured]) -> list[bool]:
    """For every artifact whether it is in the front: the only set that holds exactly those artifacts which none in the set
    dominates. What is left out is dominated by something that stays, and beats that in nothing.

    It is the kernel of `dominates` (von Neumann & Morgenstern 1944), which is not transitive: what only artifacts dominate that
    are themselves left out stays. What nothing left dominates is taken, and what that dominates goes, until none is left.
    One machine's artifacts dominate each other in no circle; should those of several, the smallest of it is taken.
    """
    left = sorted(range(len(artifacts)), key=lambda i: _rank(artifacts[i]))
    beaten = {i: {j for j in left if dominates(artifacts[j], artifacts[i])} for i in left}
    kept: set[int] = set()
    while left:
        kept.update([i for i in left if beaten[i].isdisjoint(left)] or left[:1])
        left = [i for i in left if i not in kept and beaten[i].isdisjoint(kept)]
    return [i in kept for i in range(len(artifacts))]


def _rank(artifact: Measured) -> tuple[float, float, float, str, str]:
    """An order of artifacts that does not depend on how they are given."""
    assert artifact.perplexity is not None
    return artifact.bytes, artifact.perplexity, -(artifact.decode or 0.0), artifact.run, artifact.path


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
