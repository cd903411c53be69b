"""How far a model's answers are from those of its dense self: mean KL divergence per token, on given windows.

The dense answers are computed once and kept: as log-probabilities in float16, whose error is smallest where the probability
is large, or only the most likely tokens and the rest as one when all of them would take too much memory.

Shapes: T tokens, V vocabulary, K most likely tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

LIMIT = 2**30  # bytes of all dense answers, beyond which only the most likely tokens are kept
LIKELY = 1024
PIECE = 128  # tokens compared at a time


@dataclass(frozen=True)
class Answer:
    """Log-probabilities [T, V] in float16, or of the tokens `ids` [T, K] alone."""

    log_TK: torch.Tensor
    ids_TK: torch.Tensor | None = None


@dataclass
class Reference:
    """The dense answers to some windows, in order; `likely` is how many tokens are kept of each, None for all."""

    likely: int | None = None
    answers: list[Answer] = field(default_factory=list)

    def add(self, logits_TV: torch.Tensor) -> None:
        """Keeps the next window's answer."""
        self.answers.append(kept(logits_TV, self.likely))

    def divergence(self, window: int, logits_TV: torch.Tensor) -> float:
        """KL(dense || these logits) in nats, the mean over the window's tokens."""
        return divergence(self.answers[window], logits_TV)


def likely(tokens: int, vocabulary: int) -> int | None:
    """How many tokens to keep of each answer so that `tokens` answers stay below the limit; None for all."""
    return None if 2 * tokens * vocabulary <= LIMIT else min(LIKELY, vocabulary)


def kept(logits_TV: torch.Tensor, count: int | None) -> Answer:
    """The answer in its stored form."""
    log_TV = torch.log_softmax(two_sided(logits_TV).float(), dim=-1)
    if count is None:
        return Answer(log_TV.half())
    log_TK, ids_TK = log_TV.topk(count, dim=-1)
    return Answer(log_TK.half(), ids_TK.int())


def divergence(answer: Answer, logits_TV: torch.Tensor) -> float:
    """KL in nats, the mean over tokens; of the likely tokens and the rest as one where only these are known."""
    total = 0.0
    for start in range(0, len(logits_TV), PIECE):
        rows = slice(start, start + PIECE)
        q_TV = torch.log_softmax(two_sided(logits_TV[rows]).float(), dim=-1)
        if answer.ids_TK is None:
            p_TK = torch.log_softmax(answer.log_TK[rows].float(), dim=-1)  # rounding moved the sum
            q_TK = q_TV
        else:
            p_TK = with_rest(answer.log_TK[rows].float())
            q_TK = with_rest(q_TV.gather(1, answer.ids_TK[rows].long()))
        total += float((p_TK.exp() * (p_TK - q_TK)).sum())
    return total / len(logits_TV)


def with_rest(log_TK: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [T, K+1]: the tokens given, and all others as one."""
    rest_T1 = (1 - log_TK.exp().sum(-1, keepdim=True)).clamp_min(1e-6).log()
    return torch.log_softmax(torch.cat([log_TK, rest_T1], dim=-1), dim=-1)


def two_sided(logits_TV: torch.Tensor) -> torch.Tensor:
    """One logit (positive is class 1) as the two that mean the same."""
    if logits_TV.shape[-1] > 1:
        return logits_TV
    return torch.cat([torch.zeros_like(logits_TV), logits_TV], dim=-1)
