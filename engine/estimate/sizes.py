"""The sizes that every need is made of: the model's, as it was loaded, and the calibration data's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.options import CalibrationOptions
from engine.matrices import Matrix
from engine.prompts.bounds import KEPT, Bounds, numbers_held
from engine.subject import DTYPES, Subject

Group = tuple[tuple[int, int], ...]
"""shapes [O, I] of matrices that share an input"""


@dataclass(frozen=True)
class Sizes:
    """Widths in numbers, not bytes; `number` is the bytes of one in the run's format, `compute` the calibration's format.

    `active` is the share of the experts' work that a token causes, 1 for dense models. `samples` windows of `length` tokens
    calibrate, `chunk` of them at a time. `streamed` models are read block by block; hidden states
    that are `spilled` wait on disk between blocks.
    """

    language: bool
    dtype: str
    compute: str
    parameters: int
    blocks: tuple[int, ...]
    groups: tuple[Group, ...]
    hidden: int
    widest: int
    vocabulary: int
    keys: int
    active: float
    samples: int
    length: int
    chunk: int
    scored: Bounds = Bounds()
    learning: Bounds = KEPT
    streamed: bool = False
    spilled: bool = False

    @classmethod
    def of(cls, subject: Subject, matrices: Sequence[Matrix], calibration: CalibrationOptions) -> Sizes:
        """Of a model with these matrices and its calibration data."""
        blocks = tuple(sum(p.numel() for p in block.parameters()) for block in subject.blocks())
        hidden, vocabulary = _embedding(subject, matrices)
        samples = calibration.samples if subject.is_language_model else _rows(subject)
        return cls(
            language=subject.is_language_model, dtype=str(subject.dtype).removeprefix("torch."),
            compute=calibration.compute, parameters=subject.parameters, blocks=blocks, groups=_groups(matrices),
            hidden=hidden, widest=max([hidden, *(max(m.shape) for m in matrices)]), vocabulary=vocabulary,
            keys=numbers_held(subject, hidden), active=_active(subject, matrices), samples=samples,
            length=calibration.length if subject.is_language_model else 1, chunk=min(samples, calibration.chunk or samples),
            scored=Bounds.of(subject) if subject.is_language_model else Bounds(),
            learning=Bounds.learning(subject) if subject.is_language_model else KEPT,
            streamed=subject.stream is not None,
            spilled=calibration.states == "disk",
        )  # fmt: skip

    @property
    def number(self) -> int:
        return DTYPES[self.dtype].itemsize

    @property
    def held(self) -> int:
        """Parameters of one loaded model that are in memory together: of a streamed one the largest block and the rest."""
        return max(self.blocks) + self.parameters - sum(self.blocks) if self.streamed else self.parameters

    @property
    def loaded(self) -> int:
        """Bytes that one loaded model holds."""
        return self.held * self.number

    @property
    def tokens(self) -> int:
        """Of all calibration data."""
        return self.samples * self.length

    @property
    def matrix_weights(self) -> int:
        return sum(rows * width for group in self.groups for rows, width in group)

    @property
    def embedding(self) -> int:
        """Weights of the largest matrix outside the blocks."""
        return self.vocabulary * self.hidden

    def smaller(self, share: float) -> Sizes:
        """Of the model without this share of its blocks' weights."""
        kept = tuple(round(count * (1 - share)) for count in self.blocks)
        groups = tuple(tuple((max(1, round(o * (1 - share))), i) for o, i in group) for group in self.groups)
        parameters = self.parameters - sum(self.blocks) + sum(kept)
        return replace(self, blocks=kept, groups=groups, parameters=parameters)


def _groups(matrices: Sequence[Matrix]) -> tuple[Group, ...]:
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for matrix in matrices:
        groups.setdefault((matrix.block, matrix.group), []).append(matrix.shape)
    return tuple(tuple(group) for group in groups.values())


def _embedding(subject: Subject, matrices: Sequence[Matrix]) -> tuple[int, int]:
    """(hidden, vocabulary); of a module without tokens its input's width, and 0."""
    if not subject.is_language_model:
        return max((m.shape[1] for m in matrices), default=1), 0
    module: Any = subject.module
    vocabulary, hidden = module.get_input_embeddings().weight.shape
    return int(hidden), int(vocabulary)


def _active(subject: Subject, matrices: Sequence[Matrix]) -> float:
    """The share of the blocks' products that a token goes through, where only some experts are asked."""
    config: Any = getattr(subject.module, "config", None)
    asked = getattr(config, "num_experts_per_tok", None)
    experts = sum(m.weight.numel() for m in matrices if m.name.endswith("]"))
    numbers = {m.name.rpartition("[")[2] for m in matrices if m.name.endswith("]")}
    if not asked or not experts:
        return 1.0
    idle = 1 - min(1.0, int(asked) / len(numbers))
    return 1 - idle * experts / sum(m.weight.numel() for m in matrices)


def _rows(subject: Subject) -> int:
    return len(subject.features.x) if subject.features is not None else 1
