"""What was found out about exported files, beside the figures of their stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.events.base import Event


@dataclass(frozen=True, kw_only=True)
class SpeedMeasured(Event):
    """Tokens a second of an exported file (by its stage) in its own runtime, on so many threads."""

    kind: ClassVar[str] = "speed_measured"
    step: int
    stage: str
    threads: int
    decode: float
    prefill: float
