"""How much goes through a model together, to be scored or to be learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import torch

from engine.memory import is_out_of_memory
from engine.subject import Subject

T = TypeVar("T")
R = TypeVar("R")

WIDER = 16  # times as much on a graphics card, which takes as long to begin with little
SHARE = 8  # of the card's memory for keys and values, and for predictions or activations: one part in so many
FLOAT = 4
BACKWARD_HIDDEN, BACKWARD_WIDE = 14, 8  # numbers of a token that a block keeps for a backward pass, for each of these
LOGITS = 4  # copies of a prediction in training: the model's own, in float32, as log-probabilities, and a gradient
PREDICTED = 8  # bytes of an entry of the vocabulary: its logit and its log-probability in float32


@dataclass(frozen=True)
class Bounds:
    """Of a batch: `tokens` that are computed, padding included, and tokens whose keys and values are held (`cached`), the
    repeated prefix included.
    """

    tokens: int = 2048
    cached: int = 16384

    @classmethod
    def of(cls, subject: Subject) -> Self:
        """The model's, where it is. They do not depend on what is free, so that a resumed run cuts the same batches."""
        return cls().on(subject, lambda hidden, vocabulary: PREDICTED * vocabulary)

    @staticmethod
    def learning(subject: Subject) -> Bounds:
        """The model's, where activations are kept for a backward pass."""
        widest = max(size for block in subject.blocks() for weight in block.parameters() for size in weight.shape)
        blocks = len(subject.blocks())

        def taken(hidden: int, vocabulary: int) -> int:
            return FLOAT * (blocks * (BACKWARD_HIDDEN * hidden + BACKWARD_WIDE * widest) + LOGITS * vocabulary)

        return KEPT.on(subject, taken)

    def on(self, subject: Subject, taken: Callable[[int, int], int]) -> Self:
        """These on a processor, wider ones on a card; `taken` are a token's bytes by the model's hidden size and vocabulary."""
        if subject.device.type != "cuda":
            return self
        module: Any = subject.module
        config = module.config.get_text_config()
        held = numbers_held(subject, config.hidden_size) * len(subject.blocks()) * subject.dtype.itemsize
        memory = torch.cuda.get_device_properties(subject.device).total_memory
        return self.wider(memory, held, taken(config.hidden_size, config.vocab_size))

    def wider(self, memory: int, held: int, taken: int) -> Self:
        """On a card with so many bytes; `held` of them take the keys and values of a token, `taken` what else is there of it
        (scored: what may follow it; learned from: its activations).
        """
        room = memory // SHARE
        tokens = max(self.tokens, min(WIDER * self.tokens, room // taken))
        return replace(self, tokens=tokens, cached=max(self.cached, min(WIDER * self.cached, room // held)))


KEPT = Bounds(512, 8192)
"""of a batch whose activations are kept for a backward pass, on a processor"""


def in_halves(work: Callable[[list[T]], list[R]], batch: list[T]) -> list[R]:
    """`work(batch)`, of halves where memory runs out on more than one: others may be on the same card."""
    try:
        return work(batch)
    except RuntimeError as error:
        if len(batch) < 2 or not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return in_halves(work, batch[:middle]) + in_halves(work, batch[middle:])


def numbers_held(subject: Subject, hidden: int) -> int:
    """Numbers in the keys and values of one token in one block."""
    if not subject.is_language_model:
        return 0
    module: Any = subject.module
    config = module.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return 2 * hidden
    head = getattr(config, "head_dim", None) or hidden // heads
    return int(2 * head * (getattr(config, "num_key_value_heads", None) or heads))
