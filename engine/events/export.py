"""What was found out about exported files, beside the figures of their stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.events.base import Event


@dataclass(frozen=True, kw_only=True)
class ReferenceMeasured(Event):
    """An exported file (by its stage) and the dense model when that is only quantized, to about as many bytes: the stage
    `reference`. A perplexity is None where none was measured; `low` and `high` bound it. The difference is that of the file's
    log-perplexity to the reference's, paired over windows, with its 95% interval.
    """

    kind: ClassVar[str] = "reference_measured"
    step: int
    stage: str
    bytes: float
    perplexity: float | None
    reference: str
    reference_bytes: float
    reference_perplexity: float | None
    perplexity_low: float | None = None
    perplexity_high: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceSkipped(Event):
    """Why an exported file (by its stage) has no dense model beside it that is only quantized to about as many bytes."""

    kind: ClassVar[str] = "reference_skipped"
    step: int
    stage: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SpeedMeasured(Event):
    """Tokens a second of an exported file (by its stage) in its own runtime, on so many threads."""

    kind: ClassVar[str] = "speed_measured"
    step: int
    stage: str
    threads: int
    decode: float
    prefill: float
