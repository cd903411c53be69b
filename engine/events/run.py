"""The course of a run: its beginning and end, its steps, what was expected and measured, what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NotRequired, TypedDict

from engine.events.base import Event


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """First event of a run, and again when a run is resumed. `allow_code`: it may run its model's own code."""

    kind: ClassVar[str] = "run_started"
    run: str
    profile: str
    source: str
    steps: list[str]
    description: str = ""
    resumed: bool = False
    allow_code: bool = False


@dataclass(frozen=True, kw_only=True)
class RunQueued(Event):
    """The run waits for its turn, before it starts; `ahead` are the runs before it, and it is said again when they change."""

    kind: ClassVar[str] = "run_queued"
    run: str
    profile: str
    source: str
    steps: list[str]
    description: str = ""
    ahead: list[str] = field(default_factory=list)


class MatrixInfo(TypedDict):
    """What is told of a matrix: `block` is an index, `shape` [out, in], `sparsity` there where it holds zeros."""

    name: str
    block: int
    shape: list[int]
    parameters: int
    sparsity: NotRequired[float]


@dataclass(frozen=True, kw_only=True)
class ModelLoaded(Event):
    """The model is in memory, or a step has changed its shapes. `matrices` lists what can be pruned, in order of calculation.
    `step` is the step that made these shapes, -1 for the model as it was loaded.
    """

    kind: ClassVar[str] = "model_loaded"
    source: str
    device: str
    dtype: str
    architecture: str
    parameters: int
    bytes: int
    threads: int
    matrices: list[MatrixInfo] = field(default_factory=list)
    step: int = -1


@dataclass(frozen=True, kw_only=True)
class StepStarted(Event):
    """Step `step` (index in the profile's list, -1 for measuring the dense model) begins."""

    kind: ClassVar[str] = "step_started"
    step: int
    use: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class StepFinished(Event):
    """`summary` holds a few plain numbers and words for the step's line; `resumed` marks one taken from a checkpoint."""

    kind: ClassVar[str] = "step_finished"
    step: int
    seconds: float
    summary: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Done and total of the step's current long work, in `unit` (layers, windows, rows, tokens)."""

    kind: ClassVar[str] = "progress"
    step: int
    label: str
    done: int
    total: int
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimated(Event):
    """What the run is expected to need (`name`: memory, disk, cache; time) in `unit` (B, s) and what there is."""

    kind: ClassVar[str] = "estimated"
    name: str
    value: float
    available: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric(Event):
    """A measured figure of one stage (dense, pruned, exported, ...) with its n and interval where they exist; of a perplexity
    the mean loss of each window, of what is right or wrong a "1" or a "0" for each row, so that two models can be compared
    window by window and row by row. `data` is equal where these are the same ones.
    """

    kind: ClassVar[str] = "metric"
    step: int
    stage: str
    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    losses: list[float] = field(default_factory=list)
    right: str = ""
    data: str = ""
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class ArtifactWritten(Event):
    """A file or folder under artifacts/, complete on disk. `path` is relative to the run's folder; `script` is the text of the
    program beside it that loads it without this package, where there is one.
    """

    kind: ClassVar[str] = "artifact_written"
    step: int
    path: str
    format: str
    bytes: int
    script: str = ""


@dataclass(frozen=True, kw_only=True)
class GateChecked(Event):
    """One bound of the profile's [gate], or of a `joint` step's at a `level` of its walk.

    A level's `value` is of `n` development rows, with a 95% interval, and `test` the same figure of the test rows (None:
    undefined there). `least`: the value is to reach the bound, not to stay within it. `instead` names what is bounded where the
    figure that the gate asks for is undefined: missed only by an interval that is beyond the bound as a whole.
    """

    kind: ClassVar[str] = "gate_checked"
    name: str
    bound: float
    value: float
    passed: bool
    step: int = -1
    level: str = ""
    least: bool = False
    instead: str = ""
    n: int | None = None
    low: float | None = None
    high: float | None = None
    test: float | None = None
    test_low: float | None = None
    test_high: float | None = None
    test_n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Log(Event):
    """A line for people. `level` is info, warning or error, `hint` the next thing to try, where there is one."""

    kind: ClassVar[str] = "log"
    message: str
    level: str = "info"
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run is complete; `exit_code` is 0, or 4 when a gate was missed.

    `memory` is the peak and `disk` the folder's size, in bytes: what was estimated, as it came out.
    """

    kind: ClassVar[str] = "run_finished"
    seconds: float
    exit_code: int = 0
    memory: int | None = None
    disk: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run stopped on an error; nothing half-written is left. `seconds` are those at work, None where nobody knows."""

    kind: ClassVar[str] = "run_failed"
    message: str
    where: str | None = None
    hint: str | None = None
    exit_code: int = 1
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunCancelled(Event):
    """The run was asked to stop; `run --resume` goes on from here."""

    kind: ClassVar[str] = "run_cancelled"
    seconds: float
