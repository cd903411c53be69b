"""What is known of one step, one matrix, one prompt of a run, and of what is told again and again: the records that the reducer
(`state`) fills.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from engine import events as ev
from engine.curves import MOST, Measure, finite, thinned

Told = TypeVar("Told", bound=ev.Event)


class Latest(Sequence[Told]):
    """What was told last of every key, in the order of telling. With `measures` a long row is thinned (see `thinned`)."""

    def __init__(self, *measures: Measure[Told]) -> None:
        self._told: dict[Hashable, Told] = {}
        self._measures = measures

    def put(self, key: Hashable, told: Told) -> None:
        """Takes constant time, thinning aside."""
        self._told.pop(key, None)
        self._told[key] = told
        if self._measures and len(self._told) >= MOST:
            kept = set(map(id, thinned(list(self), *self._measures)))
            self._told = {key: one for key, one in self._told.items() if id(one) in kept}

    def __iter__(self) -> Iterator[Told]:
        return iter(self._told.values())

    def __len__(self) -> int:
        return len(self._told)

    @overload
    def __getitem__(self, index: int) -> Told: ...
    @overload
    def __getitem__(self, index: slice) -> list[Told]: ...
    def __getitem__(self, index: int | slice) -> Told | list[Told]:
        return list(self._told.values())[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


def latest_losses() -> Latest[ev.LossMeasured]:
    """The lowest and the highest stay, and the best whose weights may."""
    return Latest(
        lambda event: finite(event.loss),
        lambda event: -finite(event.loss),
        lambda event: (not event.best, finite(event.loss)),
    )


def latest_epochs() -> Latest[ev.PromptTrained]:
    """As losses, by skill."""
    return Latest(
        lambda event: event.skill,
        lambda event: -event.skill,
        lambda event: (not event.best, -event.skill),
    )


@dataclass
class StepState:
    """One step: pending, running, done, or where the run stopped in it (failed, cancelled).

    `started` is when the work that `label` names began, `worked` are the seconds that processes have been at the step.
    """

    use: str
    status: str = "pending"
    title: str = ""
    started: float | None = None
    worked: float = 0.0
    seconds: float | None = None
    resumed: bool = False
    label: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    first: int = 0
    summary: dict[str, Any] = field(default_factory=dict)

    def rate(self, now: float) -> float | None:
        """What was done in a second since the work's first event; None while nothing is known."""
        if self.status != "running" or self.done <= self.first or self.started is None or now <= self.started:
            return None
        return (self.done - self.first) / (now - self.started)

    def eta(self, now: float) -> float | None:
        """Seconds left at that rate."""
        rate = self.rate(now)
        return None if rate is None else (self.total - self.done) / rate


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
