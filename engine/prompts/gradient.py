"""How a task's loss would change with the tokens of an instruction: its gradient by their one-hot codes (HotFlip, GCG).

The loss of a row is -log P(right choice) among the row's choices, calibrated; the instruction leads every sequence, behind
virtual tokens where there are some.
Shapes: N tokens of the lead, V vocabulary, D hidden, B sequences, K predicted positions, C choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.prompts.bounds import Bounds, in_halves
from engine.prompts.forward import Beginning, Sequence_, begin, behind, folded, may_be_padded, target_values
from engine.prompts.soft import Soft
from engine.prompts.surprise import opening
from engine.subject import Subject

CHUNK = 8192  # entries of the vocabulary that are compared together


@dataclass(frozen=True)
class Question:
    """One row: its sequences (one for all words, or one a word), with choice j's in slot base + j, and the right j."""

    sequences: tuple[Sequence_, ...]
    base: int
    choices: int
    gold: int


def task_gradient(
    subject: Subject,
    lead: Sequence[int],
    questions: Sequence[Question],
    offsets_C: torch.Tensor,
    soft: Soft | None = None,
) -> torch.Tensor:
    """Gradient [N, V] of the questions' mean loss."""
    begun = beginning(subject, soft)
    lead_ND = embedded(subject, lead).requires_grad_()
    total_ND = torch.zeros_like(lead_ND)

    def learned(batch: list[Question]) -> list[torch.Tensor]:
        with torch.enable_grad():
            loss = losses(subject, lead_ND, batch, offsets_C, begun).sum() / len(questions)
        return [torch.autograd.grad(loss, lead_ND)[0]]

    for batch in batches(questions, Bounds.learning(subject), begun.length):
        for found_ND in in_halves(learned, batch):
            total_ND += found_ND
    return by_token(subject, total_ND)


def surprise_gradient(subject: Subject, lead: Sequence[int], soft: Soft | None = None) -> torch.Tensor:
    """Gradient [N, V] of the mean surprisal of the lead's own tokens, as what predicts and as what is predicted."""
    lead_ND, begun = embedded(subject, lead).requires_grad_(), beginning(subject, soft)
    with torch.enable_grad():
        log_probs_NV = predicted(subject, lead_ND, opening(subject, lead), begun)
        chosen = log_probs_NV.gather(1, torch.tensor(lead, device=subject.device)[:, None])
        (grad_ND,) = torch.autograd.grad(-chosen.sum() / len(lead), lead_ND)
    return by_token(subject, grad_ND) - log_probs_NV.detach() / len(lead)


def beginning(subject: Subject, soft: Soft | None) -> Beginning:
    """The virtual tokens, which get no gradient."""
    with torch.no_grad():
        return begin(subject, (), soft)


def embedded(subject: Subject, ids: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """Embeddings [ids, D] as the model makes them."""
    module: Any = subject.module
    with torch.no_grad():
        found: torch.Tensor = module.get_input_embeddings()(
            torch.as_tensor(ids, dtype=torch.long, device=subject.device)
        )
    return found


def by_token(subject: Subject, grad_ND: torch.Tensor) -> torch.Tensor:
    """The gradient by one-hot codes [N, V] from that by embeddings."""
    module: Any = subject.module
    size = module.get_input_embeddings().weight.shape[0]
    parts = [torch.arange(begin, min(begin + CHUNK, size)) for begin in range(0, size, CHUNK)]
    return torch.cat([grad_ND @ embedded(subject, part).T for part in parts], dim=1)


def predicted(subject: Subject, lead_ND: torch.Tensor, before: Sequence[int], begun: Beginning) -> torch.Tensor:
    """Log-probabilities [N, V] of what stands at each place of the lead; zeros for a special first token."""
    module: Any = subject.module
    front = [embedded(subject, before)] if before else []
    logits = module(inputs_embeds=torch.cat([*front, lead_ND])[None], **behind(begun, 1)).logits[0, :-1]
    found: torch.Tensor = wide(logits).log_softmax(-1)
    return found if before else torch.cat([torch.zeros_like(found[:1]), found])


def losses(
    subject: Subject,
    lead_ND: torch.Tensor,
    questions: Sequence[Question],
    offsets_C: torch.Tensor,
    begun: Beginning,
) -> torch.Tensor:
    """-log P(right choice) of each question, with the lead's embeddings in the place of its tokens."""
    flat = [sequence for question in questions for sequence in question.sequences]
    together = not begun.length or may_be_padded(subject, begun.length + max(len(s.tokens) for s in flat))
    groups = [flat] if together else [[sequence] for sequence in flat]
    values_T = torch.cat([target_values(group, _forward(subject, lead_ND, group, begun)) for group in groups])
    counts = [sum(len(sequence.targets) for sequence in question.sequences) for question in questions]
    out = []
    for question, values in zip(questions, torch.split(values_T, counts), strict=True):
        slots = [slot - question.base for sequence in question.sequences for slot, _ in sequence.targets]
        scores_C = folded(values, slots, question.choices, -torch.inf).log_softmax(0)
        out.append(-(scores_C - offsets_C[: question.choices].to(scores_C)).log_softmax(0)[question.gold])
    return torch.stack(out)


def _forward(subject: Subject, lead_ND: torch.Tensor, sequences: Sequence[Sequence_], begun: Beginning) -> torch.Tensor:
    """Log-probabilities [B, K, V] at the last positions; sequences are padded on the left."""
    module: Any = subject.module
    device, count = subject.device, len(lead_ND)
    length = max(len(s.tokens) for s in sequences)
    pads = [length - len(s.tokens) for s in sequences]
    rows = []
    for pad, sequence in zip(pads, sequences, strict=True):
        front, rest = embedded(subject, [0] * pad), embedded(subject, sequence.tokens[count:])
        rows.append(torch.cat([front, lead_ND, rest]))
    places = torch.arange(length, device=device) - torch.tensor(pads, device=device)[:, None]
    real = torch.cat([torch.ones(len(rows), begun.length, device=device, dtype=torch.bool), places >= 0], dim=1)
    logits = module(
        inputs_embeds=torch.stack(rows), attention_mask=real.long(), position_ids=places.clamp_min(0) + begun.length,
        logits_to_keep=max(s.positions for s in sequences), **behind(begun, len(rows)),
    ).logits  # fmt: skip
    return wide(logits).log_softmax(-1)


def wide(logits: torch.Tensor) -> torch.Tensor:
    """At least float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def batches(questions: Sequence[Question], most: Bounds, virtual: int = 0) -> Iterator[list[Question]]:
    """Questions in order, together while their sequences, each as long as the longest, are within bounds behind so many virtual
    tokens.
    """
    batch: list[Question] = []
    for question in questions:
        lengths = [len(sequence.tokens) for q in [*batch, question] for sequence in q.sequences]
        longest = max(lengths)
        full = len(lengths) * longest > most.tokens or len(lengths) * (virtual + longest) > most.cached
        if batch and full:
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch
