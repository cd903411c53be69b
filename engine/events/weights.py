"""What happens to the weights: plans, sensitivity, pruning, removed parts, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from engine.events.base import Event


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
class BitsPlanned(Event):
    """How a quantize step splits the bytes over the matrices, {matrix name: bits}, before anything is changed."""

    kind: ClassVar[str] = "bits_planned"
    step: int
    size_ratio: float
    bits: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class LayerQuantized(Event):
    """One matrix is integer codes of `bits` now, `group` of which share a scale (0: a row). `error` as in LayerPruned."""

    kind: ClassVar[str] = "layer_quantized"
    step: int
    layer: str
    block: int
    shape: list[int]
    bits: int
    group: int
    error: float | None
    seconds: float
    done: int
    total: int


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
class LossMeasured(Event):
    """A training's mean loss at optimizer step `done` of `total`: on the batches since the last such event (`part` "train",
    with the learning rate and how many of `unit` a second are trained on) or on what is never trained on ("held out").

    `best`: the lowest held-out loss so far whose weights may stay.
    """

    kind: ClassVar[str] = "loss_measured"
    step: int
    done: int
    total: int
    part: str
    loss: float
    rate: float | None = None
    per_second: float | None = None
    unit: str = ""
    best: bool = False


def middle(values: Sequence[float]) -> float:
    """The middle one of the ratios, or of the errors at them: where a loss is measured. The lower of two."""
    return values[(len(values) - 1) // 2]
