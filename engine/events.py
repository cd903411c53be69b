"""What a run says while it runs: small frozen records, one JSON object a line, versioned.

Everything a screen, the command line, the report or a test shows is a fold over these (see `state.py`). A field that is
added must have a default; an unknown kind from a newer version reads as `Unknown` and is kept, not dropped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """Common to all: `seq` counts from 1 within a run, `time` is seconds since the epoch; the writer sets both."""

    kind: ClassVar[str] = "event"
    seq: int = 0
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """First event of a run, and again when a run is resumed."""

    kind: ClassVar[str] = "run_started"
    run: str
    profile: str
    source: str
    steps: list[str]
    description: str = ""
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelLoaded(Event):
    """The model is in memory, or a step has changed its shapes. `matrices` lists what can be pruned, in order of calculation.

    Each matrix: {"name", "block" (index), "shape" [out, in], "parameters"} and, where it holds zeros, its "sparsity".
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
    matrices: list[dict[str, Any]] = field(default_factory=list)
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
class LayerPruned(Event):
    """One matrix is done. `error` is the relative output error ||(W - W')X||^2 / ||WX||^2, None if not measured."""

    kind: ClassVar[str] = "layer_pruned"
    step: int
    layer: str
    block: int
    shape: list[int]
    sparsity: float
    error: float | None
    seconds: float
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class SparsityPlanned(Event):
    """How a prune step splits its sparsity over the matrices, before anything is changed.

    `shares` is {matrix name: sparsity}; `reasons` {matrix name: why it got its share, in a few words} where there is one.
    """

    kind: ClassVar[str] = "sparsity_planned"
    step: int
    allocation: str
    sparsity: float
    shares: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PartsRemoved(Event):
    """What structured pruning took out of one block (None: out of the whole model): `removed` are indices of `of` parts.

    `part` is "channels", "head groups", "hidden dimensions", "blocks" or "experts".
    """

    kind: ClassVar[str] = "parts_removed"
    step: int
    part: str
    block: int | None
    removed: list[int]
    of: int
    error: float | None
    seconds: float
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class BlockRecovered(Event):
    """One block was trained towards the dense block: relative output error ||f(X) - f'(X')||^2 / ||f(X)||^2 before, after."""

    kind: ClassVar[str] = "block_recovered"
    step: int
    block: int
    before: float
    after: float
    seconds: float
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity(Event):
    """The relative output error of one matrix at each of the `ratios` (sparsities), all else dense.

    `loss` is what the model's loss (KL to the dense model, nats a token) moved at the middle ratio, None if not measured;
    `heads` the same for silencing each head group alone, on the attention's output matrix.
    """

    kind: ClassVar[str] = "layer_sensitivity"
    step: int
    layer: str
    block: int
    ratios: list[float]
    errors: list[float]
    loss: float | None
    done: int
    total: int
    heads: list[float] = field(default_factory=list)

    @property
    def error(self) -> float:
        """The error at the middle ratio: the matrix's sensitivity in one number."""
        return middle(self.errors)

    @property
    def rank(self) -> tuple[float, float]:
        """What matrices are ranked by: loss where it was measured, then error."""
        return self.loss or 0.0, self.error


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
    """A measured figure of one stage (dense, pruned, exported, ...) with its n and interval where they exist."""

    kind: ClassVar[str] = "metric"
    step: int
    stage: str
    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class CandidateAdded(Event):
    """A prompt enters the race. `text` is the prompt as the model sees it, with the fields unfilled."""

    kind: ClassVar[str] = "candidate_added"
    step: int
    candidate: str
    text: str
    origin: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class CandidateScored(Event):
    """A prompt's figures on `split` (dev or test) of a task with the model of `stage`."""

    kind: ClassVar[str] = "candidate_scored"
    step: int
    candidate: str
    stage: str
    split: str
    calibration: str
    n: int
    accuracy: float
    low: float
    high: float
    margin: float = 0.0
    ms: float = 0.0
    round: int = 0
    alive: bool = True


@dataclass(frozen=True, kw_only=True)
class PromptsCompared(Event):
    """Paired comparison of prompts `a` and `b` on the same rows: difference = accuracy(a) - accuracy(b).

    `p_value` is exact McNemar, `p_holm` Holm's over all that `a` is compared with at once (None: not adjusted), `low`/`high` a
    95% paired bootstrap interval, `verdict` better / worse / tie.
    """

    kind: ClassVar[str] = "prompts_compared"
    step: int
    a: str
    b: str
    stage: str
    split: str
    calibration: str
    n: int
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str
    p_holm: float | None = None


@dataclass(frozen=True, kw_only=True)
class PromptTrained(Event):
    """An epoch of training a prompt's virtual tokens (0: as they began, no `loss` yet) and how they did on the `n` rows that
    every epoch is checked on; `best` so far or not.
    """

    kind: ClassVar[str] = "prompt_trained"
    step: int
    candidate: str
    epoch: int
    epochs: int
    loss: float | None
    accuracy: float
    skill: float
    n: int
    best: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PromptRead(Event):
    """A token for every trained virtual one and the cosine between them: the vocabulary's nearest where `form` is "soft", the
    one that it began as where it is "prefix" (its position where it was learned before).
    """

    kind: ClassVar[str] = "prompt_read"
    step: int
    candidate: str
    form: str
    tokens: list[str]
    cosines: list[float]


@dataclass(frozen=True, kw_only=True)
class ArtifactWritten(Event):
    """A file or folder under artifacts/, complete on disk. `path` is relative to the run's folder."""

    kind: ClassVar[str] = "artifact_written"
    step: int
    path: str
    format: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class GateChecked(Event):
    """One bound of the profile's [gate]."""

    kind: ClassVar[str] = "gate_checked"
    name: str
    bound: float
    value: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Log(Event):
    """A line for people. `level` is info, warning or error."""

    kind: ClassVar[str] = "log"
    message: str
    level: str = "info"


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
    """The run stopped on an error; nothing half-written is left."""

    kind: ClassVar[str] = "run_failed"
    message: str
    where: str | None = None
    hint: str | None = None
    exit_code: int = 1


@dataclass(frozen=True, kw_only=True)
class RunCancelled(Event):
    """The run was asked to stop; `run --resume` goes on from here."""

    kind: ClassVar[str] = "run_cancelled"
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Unknown(Event):
    """An event of a kind that this version does not know."""

    kind: ClassVar[str] = "unknown"
    name: str
    data: dict[str, Any]


def middle(values: Sequence[float]) -> float:
    """The middle one of the ratios, or of the errors at them: where a loss is measured. The lower of two."""
    return values[(len(values) - 1) // 2]


KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted, ModelLoaded, StepStarted, StepFinished, Progress, Estimated, SparsityPlanned, LayerSensitivity,
        LayerPruned, PartsRemoved, BlockRecovered, Metric, CandidateAdded, CandidateScored, PromptsCompared,
        PromptTrained, PromptRead, ArtifactWritten, GateChecked, Log, RunFinished, RunFailed, RunCancelled,
    )
}  # fmt: skip
FINAL = (RunFinished, RunFailed, RunCancelled)


def to_json(event: Event) -> str:
    """One line without the newline: schema, kind and the fields, in the order of their declaration."""
    if isinstance(event, Unknown):
        return json.dumps(event.data, ensure_ascii=False)
    record = {"schema": SCHEMA, "kind": event.kind, **dataclasses.asdict(event)}
    return json.dumps(record, ensure_ascii=False)


def from_json(line: str | bytes) -> Event:
    """The event of one line. Raises ValueError when the line is not a JSON object (a half-written one, say)."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not an event")
    cls = KINDS.get(str(record.get("kind")))
    values = {f.name: record[f.name] for f in dataclasses.fields(cls) if f.name in record} if cls else {}
    try:
        if cls:
            return cls(**values)
    except TypeError:  # a field that this version requires is missing
        pass
    seq, time = int(record.get("seq", 0)), float(record.get("time", 0.0))
    return Unknown(name=str(record.get("kind")), data=record, seq=seq, time=time)
