"""Training rows of a task as a model meets them behind virtual tokens, and the loss of its answers.

The loss is (1 - alpha) CE + alpha tau^2 KL(teacher || student), both over the choices of a row. What all rows begin with is
encoded once for all that go through the model together, gradients included.

Shapes: R rows, C choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import cross_entropy

from engine.data.rows import Row
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
class Lessons:
    """`sequences` by row, their slots counted in that row alone; `teacher_RC` are the dense model's log-likelihoods."""

    subject: Subject
    sequences: list[list[Sequence_]]
    gold: list[int]
    width: int
    prefix: tuple[int, ...]
    padded: bool
    teacher_RC: torch.Tensor | None
    alpha: float
    temperature: float
    compute: torch.dtype
    bounds: Bounds

    @classmethod
    def of(cls, scorer: Scorer, text: Prompt, rows: Sequence[Row], virtual: int, teacher_RC: torch.Tensor | None,
           alpha: float, temperature: float, compute: torch.dtype) -> Lessons:  # fmt: skip
        """The text's sequences for `rows`, to be met behind so many virtual tokens."""
        width = max(len(row.choices) for row in rows)
        by_row: list[list[Sequence_]] = [[] for _ in rows]
        everything = scorer.fitting(text, rows, width, virtual)
        for sequence in everything:
            row = sequence.targets[0][0] // width
            own = tuple((slot - row * width, tokens) for slot, tokens in sequence.targets)
            by_row[row].append(replace(sequence, targets=own))
        prefix = shared_prefix([s.sharable for s in everything])
        padded = may_be_padded(scorer.subject, virtual + max(len(s.tokens) for s in everything))
        gold = [row.gold for row in rows]
        return cls(scorer.subject, by_row, gold, width, prefix, padded, teacher_RC, alpha, temperature, compute,
                   Bounds.learning(scorer.subject))  # fmt: skip

    def loss(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """The mean loss of these rows."""
        device = self.subject.device
        low = self.compute != torch.float32
        with torch.autocast(device.type, dtype=self.compute, enabled=low):
            scores_RC = self.scores(soft, indices)
        gold_R = torch.tensor([self.gold[i] for i in indices], device=device)
        teacher_RC = None if self.teacher_RC is None else self.teacher_RC[list(indices)].to(device)
        return choice_loss(scores_RC, gold_R, teacher_RC, self.alpha, self.temperature)

    def scores(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """Log-likelihoods [R, C] in float64."""
        begun = begin(self.subject, self.prefix, soft)
        slots, values = [], []
        for group in self._groups(indices):
            sequences = [sequence for _, sequence in group]
            values.append(target_values(sequences, predictions(self.subject, sequences, begun)))
            slots += [place * self.width + slot for place, sequence in group for slot, _ in sequence.targets]
        return folded(torch.cat(values), slots, len(indices) * self.width, ABSENT).view(-1, self.width)

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
