"""Training rows of a task as a model meets them behind virtual tokens, and the loss of its answers.

The loss is (1 - alpha) CE + alpha tau^2 KL(teacher || student), here both over the choices of a row, in forced.py over the
tokens of a free answer. What all rows begin with is encoded once for all that go through the model together, gradients
included.

Shapes: R rows, C choices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from engine.data.rows import Row
from engine.prompts import calibration
from engine.prompts.bounds import Bounds
from engine.prompts.forward import (
    SHORTEST_PREFIX,
    Sequence_,
    begin,
    folded,
    may_be_padded,
    predictions,
    target_values,
)
from engine.prompts.scorer import Scorer, shared_prefix
from engine.prompts.soft import Soft
from engine.prompts.template import Prompt
from engine.subject import Subject

ABSENT = -1e9  # the log-likelihood of a choice that a row does not have: finite, so that its gradient is 0 and not NaN


@dataclass(frozen=True)
class Teacher:
    """Whose answers are learned from, and what it reads ahead of a row; `kind` is how its choices are calibrated, with the
    answers to the `meaningless` inputs where it needs some.
    """

    scorer: Scorer
    prompt: Prompt
    kind: str = "none"
    meaningless: Sequence[Row] = ()

    def choices(self, rows: Sequence[Row]) -> torch.Tensor:
        """Log-likelihoods [R, C] in float64."""
        scores_RC = self.scorer.score(self.prompt, rows)
        if self.kind == "none":
            return scores_RC
        offsets_C = calibration.fitted(self.kind, self.scorer, self.prompt, scores_RC, self.meaningless)
        return calibration.apply(scores_RC, offsets_C)


@dataclass(frozen=True)
class Lessons(ABC):
    """`sequences` by row, which are met behind virtual tokens; `prefix` is what they all begin with."""

    subject: Subject
    sequences: list[list[Sequence_]]
    prefix: tuple[int, ...]
    padded: bool
    alpha: float
    temperature: float
    compute: torch.dtype
    bounds: Bounds

    @abstractmethod
    def loss(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """The mean loss of these rows."""

    def met(
        self, soft: Soft | None, indices: Sequence[int]
    ) -> Iterator[tuple[list[tuple[int, Sequence_]], torch.Tensor]]:
        """Of these rows what goes through the model together, as (place among the rows, sequence), and the predictions at the
        last positions (see forward.py).
        """
        low = self.compute != torch.float32
        with torch.autocast(self.subject.device.type, dtype=self.compute, enabled=low):
            begun = begin(self.subject, self.prefix, soft)
        for group in self._groups(indices):
            with torch.autocast(self.subject.device.type, dtype=self.compute, enabled=low):
                found = predictions(self.subject, [sequence for _, sequence in group], begun)
            yield group, found

    def parts(self, indices: Sequence[int], virtual: int) -> Iterator[list[int]]:
        """The rows by their length, together while what a backward pass keeps of them, each as long as the longest, is within
        bounds.
        """
        part: list[int] = []
        for index in sorted(indices, key=lambda i: max(len(sequence.tokens) for sequence in self.sequences[i])):
            if part and not self._fit([*part, index], virtual):
                yield part
                part = []
            part.append(index)
        if part:
            yield part

    def _fit(self, indices: Sequence[int], virtual: int) -> bool:
        lengths = [len(sequence.tokens) for index in indices for sequence in self.sequences[index]]
        own = max(lengths) - (len(self.prefix) if len(self.prefix) >= SHORTEST_PREFIX else 0)
        together = len(lengths) * (virtual + max(lengths))
        return len(lengths) * own <= self.bounds.tokens and together <= self.bounds.cached

    def _groups(self, indices: Sequence[int]) -> Iterator[list[tuple[int, Sequence_]]]:
        """(place in the batch, sequence) of what goes through the model together: all, or what is of one length."""
        groups: dict[int, list[tuple[int, Sequence_]]] = defaultdict(list)
        for place, index in enumerate(indices):
            for sequence in self.sequences[index]:
                groups[0 if self.padded else len(sequence.tokens)].append((place, sequence))
        yield from groups.values()


def common(subject: Subject, by_row: list[list[Sequence_]], virtual: int) -> dict[str, Any]:
    """What the lessons of these sequences, by row, have in common whatever is learned from them."""
    everything = [sequence for some in by_row for sequence in some]
    return {
        "subject": subject, "sequences": by_row, "prefix": shared_prefix([s.sharable for s in everything]),
        "padded": may_be_padded(subject, virtual + max(len(s.tokens) for s in everything)),
        "bounds": Bounds.learning(subject),
    }  # fmt: skip


@dataclass(frozen=True)
class ChoiceLessons(Lessons):
    """The slots of a row's sequences are counted in that row alone; `teacher_RC` are the dense model's log-likelihoods."""

    gold: list[int]
    width: int
    teacher_RC: torch.Tensor | None

    @classmethod
    def of(cls, scorer: Scorer, text: Prompt, rows: Sequence[Row], virtual: int, teacher: Teacher | None, alpha: float,
           temperature: float, compute: torch.dtype) -> ChoiceLessons:  # fmt: skip
        """The text's sequences for `rows`, to be met behind so many virtual tokens."""
        width = max(len(row.choices) for row in rows)
        by_row: list[list[Sequence_]] = [[] for _ in rows]
        for sequence in scorer.fitting(text, rows, width, virtual):
            row = sequence.targets[0][0] // width
            own = tuple((slot - row * width, tokens) for slot, tokens in sequence.targets)
            by_row[row].append(replace(sequence, targets=own))
        return cls(**common(scorer.subject, by_row, virtual), alpha=alpha, temperature=temperature, compute=compute,
                   gold=[row.gold for row in rows], width=width,
                   teacher_RC=teacher.choices(rows) if teacher else None)  # fmt: skip

    def loss(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """The mean loss of these rows."""
        device = self.subject.device
        gold_R = torch.tensor([self.gold[i] for i in indices], device=device)
        scores_RC = self.scores(soft, indices)
        teacher_RC = None if self.teacher_RC is None else self.teacher_RC[list(indices)].to(scores_RC)
        return choice_loss(scores_RC, gold_R, teacher_RC, self.alpha, self.temperature)

    def scores(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """Log-likelihoods [R, C] in float64."""
        slots, values = [], []
        for group, log_probs_RKV in self.met(soft, indices):
            values.append(target_values([sequence for _, sequence in group], log_probs_RKV))
            slots += [place * self.width + slot for place, sequence in group for slot, _ in sequence.targets]
        return folded(torch.cat(values), slots, len(indices) * self.width, ABSENT).view(-1, self.width)


def choice_loss(
    scores_RC: torch.Tensor, gold_R: torch.Tensor, teacher_RC: torch.Tensor | None, alpha: float, temperature: float
) -> torch.Tensor:
    """(1 - alpha) CE + alpha tau^2 KL(teacher || student) over the choices, the mean over the rows (Hinton et al. 2015,
    arXiv 1503.02531). Without a teacher it is the CE.
    """
    right = cross_entropy(scores_RC, gold_R)
    if teacher_RC is None:
        return right
    student = (scores_RC / temperature).log_softmax(1)
    teacher = (teacher_RC.clamp_min(ABSENT) / temperature).log_softmax(1)
    divergence = (teacher.exp() * (teacher - student)).sum(1).mean()
    return (1 - alpha) * right + alpha * temperature**2 * divergence
