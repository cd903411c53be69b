"""What is known of one step, one matrix, one prompt of a run: the records that the reducer (`state`) fills."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine import events as ev


@dataclass
class StepState:
    """One step: pending, running, done, or where the run stopped in it (failed, cancelled)."""

    use: str
    status: str = "pending"
    title: str = ""
    started: float | None = None
    seconds: float | None = None
    resumed: bool = False
    label: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    first: int = 0
    summary: dict[str, Any] = field(default_factory=dict)

    def eta(self, now: float) -> float | None:
        """Seconds left at the rate since the work's first event; None while nothing is known."""
        if self.status != "running" or self.done <= self.first or self.started is None:
            return None
        return max(0.0, now - self.started) / (self.done - self.first) * (self.total - self.done)


@dataclass
class LayerState:
    """One matrix: its shape, the sparsity it is to get, and after pruning its sparsity, after quantizing its bits; of what was
    done last the relative output error and seconds.
    """

    name: str
    block: int
    shape: list[int]
    parameters: int
    sparsity: float | None = None
    error: float | None = None
    seconds: float | None = None
    planned: float | None = None
    reason: str = ""
    bits: int | None = None
    planned_bits: int | None = None

    @classmethod
    def of(cls, told: ev.MatrixInfo) -> LayerState:
        return cls(told["name"], told["block"], told["shape"], told["parameters"], told.get("sparsity"))


@dataclass(frozen=True)
class Used:
    """What an estimate came out as, in its unit."""

    value: float
    unit: str


@dataclass
class CandidateState:
    """One prompt and its latest figures per (stage, split, calibration), and on disturbed inputs per (stage, perturbation)."""

    name: str
    text: str
    origin: str
    tokens: int
    alive: bool = True
    round: int = 0
    scores: dict[tuple[str, str, str], ev.CandidateScored] = field(default_factory=dict)
    perturbed: dict[tuple[str, str], ev.PromptPerturbed] = field(default_factory=dict)
    step: int = 0
    """the step that it entered in first"""
