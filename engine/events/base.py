"""What all events have in common, and the ones that a newer version wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Common to all: `seq` counts from 1 within a run, `time` is seconds since the epoch; the writer sets both."""

    kind: ClassVar[str] = "event"
    seq: int = 0
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unknown(Event):
    """An event of a kind that this version does not know."""

    kind: ClassVar[str] = "unknown"
    name: str
    data: dict[str, Any]
