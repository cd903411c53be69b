"""What happens to prompts: candidates, comparisons, training of virtual tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.events.base import Event


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
    """A prompt's figures on `split` (dev or test) of a task with the model of `stage`: `accuracy` is the task's `metric`."""

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
    metric: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class PromptsCompared(Event):
    """Paired comparison of prompts `a` and `b` on the same rows: difference = metric(a) - metric(b).

    `p_value` is exact McNemar where rows are right or wrong, else approximate randomization, `p_holm` Holm's over all that `a`
    is compared with at once (None: not adjusted), `low`/`high` a 95% paired bootstrap interval, `verdict` better / worse / tie.
    On the test `split` a verdict that the task's confirm rows do not repeat is a tie; their own comparison is told first.
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
    metric: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class PromptPerturbed(Event):
    """A finalist's `accuracy` (by the task's `metric`) on the first `n` test rows with disturbed inputs, of which `changed` are
    other than they were, and `before` on the same rows as they were; under the calibration that its step chose with.
    `change_low`/`change_high` are the 95% paired bootstrap interval of accuracy - before.
    """

    kind: ClassVar[str] = "prompt_perturbed"
    step: int
    candidate: str
    stage: str
    perturbation: str
    n: int
    changed: int
    accuracy: float
    low: float
    high: float
    before: float
    metric: str = "accuracy"
    change_low: float | None = None
    change_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class SplitTested(Event):
    """The run looks at a task's test split of `rows` rows, as the `look`-th run on this machine that does (0: not counted);
    `seen` of them earlier runs have seen.
    """

    kind: ClassVar[str] = "split_tested"
    step: int
    task: str
    rows: int
    look: int
    seen: int = 0


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
    metric: str = "accuracy"


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
