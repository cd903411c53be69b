"""Every artifact that was measured, of all runs, in one SQLite file of the state folder; and which of them are worth having.

Artifacts are comparable when they come from the same model and were measured on the same windows of the same text, their speeds
on the same device and number of threads. Perplexities whose intervals overlap are a tie. No torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from engine import files
from engine.errors import Unavailable, did_you_mean

TABLE = "measured"
Bounded = tuple[float, float | None, float | None]
"""a figure with the ends of its interval, where it has one"""


@dataclass(frozen=True)
class Measured:
    """One artifact: of which model, from which run's folder, on what it was measured, and the figures; None for what was not
    measured. `low` and `high` bound the perplexity.

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


COLUMNS = tuple(field.name for field in fields(Measured))


def add(artifact: Measured) -> None:
    """Keeps an artifact; one of the same run and path is replaced."""
    with _open() as archive:
        marks = ", ".join(f":{name}" for name in COLUMNS)
        archive.execute(f"INSERT OR REPLACE INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks})", asdict(artifact))
        archive.commit()


def of_model(model: str) -> list[Measured]:
    """A model's artifacts that are still there and have a perplexity, in the order of measurement: all those on the text that
    was used last.
    """
    with _open() as archive:
        found = archive.execute(
            f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE model = ? AND perplexity IS NOT NULL ORDER BY time",
            (model,),
        ).fetchall()
    artifacts = [
        artifact for artifact in (Measured(*row) for row in found) if Path(artifact.run, artifact.path).exists()
    ]
    return [artifact for artifact in artifacts if artifact.text == artifacts[-1].text]


def found(model: str) -> list[Measured]:
    """`of_model` for people. Raises Unavailable where there are none, and where the file cannot be read."""
    try:
        artifacts, known = of_model(model), models()
    except (OSError, sqlite3.Error) as error:
        message = f"the archive of artifacts cannot be read: {error}"
        hint = "move it away; runs begin a new one"
        raise Unavailable(message, where=str(files.archive_file()), hint=hint) from error
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
    pairs = list(zip(_costs(one), _costs(other), strict=True))
    if (one.device, one.threads) != (other.device, other.threads):
        pairs.pop()
    return any(less(a, b) for a, b in pairs) and not any(less(b, a) for a, b in pairs)


def _costs(artifact: Measured) -> tuple[Bounded, Bounded, Bounded]:
    """Size, perplexity, speed."""
    assert artifact.perplexity is not None
    speed = -(artifact.decode or 0.0)
    return (artifact.bytes, None, None), (artifact.perplexity, artifact.low, artifact.high), (speed, None, None)


def less(one: Bounded, other: Bounded) -> bool:
    """Whether a figure is below another; where both have intervals, whether one ends below where the other begins."""
    if one[2] is None or other[1] is None:
        return one[0] < other[0]
    return one[2] < other[1]


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    file = files.archive_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=30)) as archive:
        keys = ", ".join(COLUMNS)
        archive.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({keys}, PRIMARY KEY (run, path))")
        yield archive
