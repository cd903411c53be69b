"""Lessons of free answers, by teacher forcing: the model reads a right answer and is to say each next token of it, and its end.

The loss of a row is the mean over these tokens of (1 - alpha) CE + alpha tau^2 KL(teacher || student). The teacher is the dense
model behind the same text, its likely tokens kept and all others as one.

Shapes: R rows, N tokens of an answer, V vocabulary, K likely tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from engine.data.rows import Row
from engine.data.tasks import Generation
from engine.evaluation.divergence import with_rest
from engine.prompts.forward import Beginning, Sequence_, ends, predictions
from engine.prompts.lessons import Lessons, Teacher, common
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft
from engine.prompts.template import Prompt
from engine.subject import Subject
from engine.training.losses import entropy_terms

LIKELY = 64  # tokens of the teacher's that are kept
DIGITS = 4


@dataclass(frozen=True)
class AnswerLessons(Lessons):
    """Every row has one sequence with one target; `teacher` are a row's [N, K] log-probabilities and token ids."""

    teacher: list[tuple[torch.Tensor, torch.Tensor]] | None

    @classmethod
    def of(cls, scorer: Scorer, how: Generation, text: Prompt, rows: Sequence[Row], virtual: int, teacher: Teacher | None,
           alpha: float, temperature: float, compute: torch.dtype) -> AnswerLessons:  # fmt: skip
        """The text's sequences for `rows`, to be met behind so many virtual tokens."""
        sequences = forced(scorer, how, text, rows, virtual)
        return cls(**common(scorer.subject, [[sequence] for sequence in sequences], virtual), alpha=alpha,
                   temperature=temperature, compute=compute,
                   teacher=taught(teacher, how, rows, sequences, temperature) if teacher else None)  # fmt: skip

    def loss(self, soft: Soft | None, indices: Sequence[int]) -> torch.Tensor:
        """The mean loss of these rows."""
        found = [self._losses(log_probs_RNV, [sequence for _, sequence in group], [indices[place] for place, _ in group])
                 for group, log_probs_RNV in self.met(soft, indices)]  # fmt: skip
        return torch.cat(found).mean()

    def _losses(self, log_probs_RNV: torch.Tensor, sequences: Sequence[Sequence_], rows: Sequence[int]) -> torch.Tensor:
        """Of every row [R]."""
        device, answers = log_probs_RNV.device, [sequence.targets[0][1] for sequence in sequences]
        longest = log_probs_RNV.shape[1]
        ids_RN = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in answers], device=device)
        counts_R = torch.tensor([len(ids) for ids in answers], device=device)
        real_RN = torch.arange(longest, device=device) >= longest - counts_R[:, None]
        losses_RN = -log_probs_RNV.gather(2, ids_RN[..., None])[..., 0]
        if self.teacher is not None:
            apart_RN = self._divergence(log_probs_RNV, [self.teacher[row] for row in rows])
            losses_RN = (1 - self.alpha) * losses_RN + self.alpha * self.temperature**2 * apart_RN
        return losses_RN.where(real_RN, torch.zeros_like(losses_RN)).sum(1) / counts_R

    def _divergence(
        self, log_probs_RNV: torch.Tensor, teacher: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        """KL(teacher || student) [R, N]; at places ahead of an answer it means nothing."""
        longest, likely = log_probs_RNV.shape[1], teacher[0][0].shape[1]
        log_RNK = torch.full((len(teacher), longest, likely), -torch.inf)
        ids_RNK = torch.zeros((len(teacher), longest, likely), dtype=torch.long)
        for row, (log_NK, ids_NK) in enumerate(teacher):
            log_RNK[row, longest - len(log_NK) :], ids_RNK[row, longest - len(ids_NK) :] = log_NK, ids_NK
        student_RNK = softened(log_probs_RNV, self.temperature).gather(2, ids_RNK.to(log_probs_RNV.device))
        return entropy_terms(with_rest(log_RNK.to(log_probs_RNV.device)), with_rest(student_RNK)).sum(-1)


def right(how: Generation, text: Prompt, row: Row) -> Row:
    """The row with the one answer that is learned, the first right one, up to where the model is to stop. In a chat it is the
    template that ends a turn.
    """
    answer = row.choices[row.gold]
    if how.stop:
        answer = answer.partition(how.stop)[0] + (how.stop if text.chat == "off" else "")
    return replace(row, choices=(answer,), gold=0, more=())


def forced(scorer: Scorer, how: Generation, text: Prompt, rows: Sequence[Row], virtual: int) -> list[Sequence_]:
    """The text with every row and its answer, a sequence a row; of an answer as many tokens as the model may write."""
    made = scorer.fitting(text, [right(how, text, row) for row in rows], 1, virtual + 1)
    end = () if how.stop and text.chat == "off" else ending(scorer.subject)
    return [cut(sequence, end, how.tokens) for sequence in made]


def cut(sequence: Sequence_, end: tuple[int, ...], most: int) -> Sequence_:
    """The sequence with its target and the end behind it, of these so many tokens at most."""
    ((slot, target),) = sequence.targets
    context, answer = sequence.tokens[: len(sequence.tokens) - len(target) + 1], (*target, *end)[:most]
    return Sequence_((*context, *answer[:-1]), ((slot, answer),))


def ending(subject: Subject) -> tuple[int, ...]:
    """The token at which the model's texts end, its tokenizer's where there are several; nothing where there is none."""
    found, usual = ends(subject), getattr(subject.tokenizer, "eos_token_id", None)
    return (usual if usual in found else min(found),) if found else ()


def taught(
    teacher: Teacher, how: Generation, rows: Sequence[Row], sequences: Sequence[Sequence_], temperature: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the teacher finds likely behind its own prompt at every place of the very answers that are learned."""
    own = []
    for theirs, mine in zip(forced(teacher.scorer, how, teacher.prompt, rows, 0), sequences, strict=True):
        context, ((slot, answer),) = theirs.tokens[: len(theirs.tokens) - theirs.positions + 1], mine.targets
        own.append(Sequence_((*context, *answer[:-1]), ((slot, answer),)))
    return likely(teacher.scorer, own, temperature)


def likely(teacher: Scorer, sequences: list[Sequence_], temperature: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The teacher's most likely tokens at every place of every answer, [N, K] log-probabilities and ids; from its cache where
    it has been asked before.
    """
    keys = [teacher.key(sequence, None, "likely", LIKELY, temperature) for sequence in sequences]
    work = partial(likeliest, subject=teacher.subject, temperature=temperature)
    known = teacher.known(sequences, keys, None, work)
    out = []
    for sequence, key in zip(sequences, keys, strict=True):
        log_NK, ids_NK = torch.tensor(known[key]).view(2, len(sequence.targets[0][1]), -1)
        out.append((log_NK, ids_NK.long()))
    return out


@torch.inference_mode()
def likeliest(sequences: list[Sequence_], begun: Beginning, subject: Subject, temperature: float) -> list[list[float]]:
    """Of each sequence the log-probabilities of the likely tokens at every place of its target, then their ids."""
    found_RNV = softened(predictions(subject, sequences, begun), temperature)
    log_RNK, ids_RNK = found_RNV.topk(min(LIKELY, found_RNV.shape[-1]))
    out = []
    for sequence, log_NK, ids_NK in zip(sequences, log_RNK.cpu(), ids_RNK.cpu(), strict=True):
        last = -sequence.positions
        logs = [round(float(value), DIGITS) for value in log_NK[last:].flatten()]
        out.append([*logs, *map(float, ids_NK[last:].flatten().tolist())])
    return out


def softened(log_probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """At this temperature."""
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(-1)
