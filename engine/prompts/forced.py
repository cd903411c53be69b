"""Lessons of free answers, by teacher forcing: the model reads a right answer and is to say each next token of it, and its end.

The loss of a row is the mean over these tokens of (1 - alpha) CE + alpha tau^2 KL(teacher || student). The teacher is the dense
model, its likely tokens kept and all others as one.

Shapes: R rows, N tokens of an answer, V vocabulary, K likely tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from engine.data.rows import Row
from engine.data.tasks import Generation
from engine.evaluation.divergence import Answer, with_rest
from engine.prompts import generator, rendering
from engine.prompts.forward import Beginning, Sequence_, ends, predictions
from engine.prompts.lessons import Lessons, Teacher, common
from engine.prompts.scorer import Scorer, conditions
from engine.prompts.soft import Soft
from engine.prompts.template import Prompt
from engine.subject import Subject
from engine.training.losses import entropy_terms
from engine.training.teacher import Kept, keeping, outputs
from engine.weights import weights_hash

LIKELY = 64  # tokens of the teacher's that are kept
TOGETHER = 256  # rows that the teacher is asked about until their answers are kept


@dataclass(frozen=True)
class AnswerLessons(Lessons):
    """Every row has one sequence with one target; `teacher` has the answers, by row."""

    teacher: Kept | None

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
            apart_RN = self._divergence(log_probs_RNV, [self.teacher.view([row]) for row in rows])
            losses_RN = (1 - self.alpha) * losses_RN + self.alpha * self.temperature**2 * apart_RN
        return losses_RN.where(real_RN, torch.zeros_like(losses_RN)).sum(1) / counts_R

    def _divergence(self, log_probs_RNV: torch.Tensor, teacher: Sequence[Answer]) -> torch.Tensor:
        """KL(teacher || student) [R, N]; at places ahead of an answer it means nothing."""
        device, longest, likely = log_probs_RNV.device, log_probs_RNV.shape[1], teacher[0].log_TK.shape[1]
        log_RNK = torch.full((len(teacher), longest, likely), -torch.inf, device=device)
        ids_RNK = torch.zeros((len(teacher), longest, likely), dtype=torch.long, device=device)
        for row, answer in enumerate(teacher):
            assert answer.ids_TK is not None
            log_RNK[row, -len(answer.log_TK) :], ids_RNK[row, -len(answer.ids_TK) :] = answer.log_TK, answer.ids_TK
        student_RNK = softened(log_probs_RNV, self.temperature).gather(2, ids_RNK)
        return entropy_terms(with_rest(log_RNK), with_rest(student_RNK)).sum(-1)


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
    short = generator.shortened(scorer, how, text, rows, generator.sequences(scorer, text, rows), virtual)
    some = [right(how, text, row) for row in short]
    end = () if how.stop and text.chat == "off" else ending(scorer.subject, text.chat)
    return [cut(sequence, end, how.tokens) for sequence in scorer.sequences(text, some, 1)]


def cut(sequence: Sequence_, end: tuple[int, ...], most: int) -> Sequence_:
    """The sequence with its target and the end behind it, of these so many tokens at most."""
    ((slot, target),) = sequence.targets
    context, answer = sequence.tokens[: len(sequence.tokens) - len(target) + 1], (*target, *end)[:most]
    return Sequence_((*context, *answer[:-1]), ((slot, answer),))


def ending(subject: Subject, chat: str) -> tuple[int, ...]:
    """The token at which the model's texts end: in a chat the one with which the template ends a turn, else the tokenizer's,
    where there are several; nothing where there is none.
    """
    tokenizer, found = subject.tokenizer, ends(subject)
    usual = [*(rendering.closing(tokenizer) if chat != "off" else ()), getattr(tokenizer, "eos_token_id", None), *found]
    return next(((token,) for token in usual if token in found), ())


def taught(
    teacher: Teacher, how: Generation, rows: Sequence[Row], sequences: Sequence[Sequence_], temperature: float
) -> Kept:
    """What the teacher finds likely behind its own prompt at every place of the very answers that are learned, by row, on disk;
    it is asked about those that are not there yet.
    """
    own, scorer = [], replace(teacher.scorer, cache=None)
    for theirs, mine in zip(forced(scorer, how, teacher.prompt, rows, 0), sequences, strict=True):
        context, ((slot, said),) = theirs.tokens[: len(theirs.tokens) - theirs.positions + 1], mine.targets
        own.append(Sequence_((*context, *said[:-1]), ((slot, said),)))
    with keeping(name(scorer, own, temperature), scorer.subject.device, outputs(scorer.subject)) as found:
        missing = set(found.missing(range(len(own))))
        for start in range(0, len(own), TOGETHER):  # whole groups, so that nobody's batch depends on what is there
            some = range(start, min(start + TOGETHER, len(own)))
            if missing.isdisjoint(some):
                continue
            for item, answer in zip(some, likely(scorer, [own[i] for i in some], temperature), strict=True):
                if item in missing:
                    found.add(item, answer)
    return found


def name(scorer: Scorer, sequences: Sequence[Sequence_], temperature: float) -> str:
    """Of everything that the kept answers depend on."""
    weights = conditions(scorer.subject, scorer.hashed or weights_hash(scorer.subject.module), scorer.compute)
    asked = [(sequence.tokens, sequence.targets) for sequence in sequences]
    return hashlib.blake2b(repr((weights, asked, LIKELY, temperature)).encode(), digest_size=12).hexdigest()


def likely(scorer: Scorer, sequences: list[Sequence_], temperature: float) -> list[Answer]:
    """The most likely tokens at every place of every answer."""
    work = partial(likeliest, subject=scorer.subject, temperature=temperature)
    keys = list(map(str, range(len(sequences))))
    known = scorer.known(sequences, keys, None, work)
    out = []
    for sequence, key in zip(sequences, keys, strict=True):
        log_NK, ids_NK = torch.tensor(known[key]).view(2, sequence.positions, -1)
        out.append(Answer(log_NK.half(), ids_NK.int()))
    return out


@torch.inference_mode()
def likeliest(sequences: list[Sequence_], begun: Beginning, subject: Subject, temperature: float) -> list[list[float]]:
    """Of each sequence the log-probabilities of the likely tokens at every place of its target, then their ids."""
    found_RNV = softened(predictions(subject, sequences, begun), temperature)
    log_RNK, ids_RNK = found_RNV.topk(min(LIKELY, found_RNV.shape[-1]))
    both = [torch.stack([log_RNK[i, -s.positions :], ids_RNK[i, -s.positions :]]) for i, s in enumerate(sequences)]
    return [numbers.flatten().tolist() for numbers in both]


def softened(log_probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """At this temperature."""
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(-1)
