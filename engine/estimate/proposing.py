"""What adjusters need to make their proposals, beside the scoring of them; one that is not in the table writes texts.

`tokens` stand before a row, and all of a row's `sequences` repeat them; `row` counts its own in all of its sequences.

Shapes: N tokens before the row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.sizes import Sizes
from engine.prompts import requests, surprise
from engine.prompts.adjusters import gcg, rewrite
from engine.prompts.adjusters.grips import PHRASINGS
from engine.prompts.bounds import BACKWARD_HIDDEN, BACKWARD_WIDE

LINEAR = 2  # forwards' products in a forward and a backward pass: the weights get no gradient
TRIED = 2  # texts cut for each that is proposed

Proposing = Callable[[Sizes, float, float, int, int], Needs]


def writing(sizes: Sizes, tokens: float, row: float, sequences: int, count: int) -> Needs:
    """A handful of answers of the local model for every second prompt."""
    return answers(sizes, 1 + count // 2, requests.LONGEST, PHRASINGS * (tokens + row))


def answers(sizes: Sizes, batches: float, length: int, asked: float) -> Needs:
    """Batches of answers at a token a call, each of which reads all weights; `asked` tokens are the requests of a batch."""
    calls = length * batches
    decoded = Work(traffic=calls * sizes.parameters * sizes.number)
    read = parts.forward(sizes, asked * batches, asked, sizes.dtype, calls)
    return Needs(parts.activations(sizes, asked, sizes.number), work=decoded + read + parts.calls(sizes, calls))


def differentiating(sizes: Sizes, tokens: float, row: float, sequences: int, count: int) -> Needs:
    """A gradient [N, V] of some training rows and of the instruction's surprisal, and the swaps' surprisals, every round."""
    rounds = 1 + count // gcg.PROPOSALS
    question = sequences * tokens + row  # a question's sequences are never parted
    seen, asked = gcg.ROWS * question, rounds * gcg.ROWS * sequences
    passes = parts.forward(sizes, rounds * seen, question / sequences, sizes.dtype, asked) * LINEAR
    compared = Work({"float32": 2 * rounds * 2 * tokens * sizes.vocabulary * sizes.hidden})
    swaps = rounds * (gcg.SAMPLES + 1 + LINEAR)
    weighed = parts.forward(sizes, swaps * tokens, tokens, sizes.dtype, swaps * tokens)
    scored = parts.rows(sizes, rounds * gcg.ROWS, row, tokens, rounds)
    batches = rounds * (2 + seen // sizes.learning.tokens + gcg.SAMPLES // surprise.BATCH)
    kept = max(min(sizes.learning.tokens, seen), question) * len(sizes.blocks)
    kept *= FLOAT * (BACKWARD_HIDDEN * sizes.hidden + BACKWARD_WIDE * sizes.widest)
    logits = surprise.BATCH * tokens * sizes.vocabulary * 2 * FLOAT
    memory = max(kept, logits) + 3 * tokens * sizes.vocabulary * FLOAT
    return scored.then(Needs(memory, work=passes + compared + weighed + parts.calls(sizes, batches)))


def weighing(sizes: Sizes, tokens: float, row: float, sequences: int, count: int) -> Needs:
    """The surprisal of the text before the row, with its predictions [N, V]."""
    texts = TRIED * (1 + count)
    work = parts.forward(sizes, texts * tokens, tokens, sizes.dtype, texts * tokens)
    memory = 2 * FLOAT * tokens * sizes.vocabulary + parts.activations(sizes, tokens, sizes.number)
    return Needs(memory, work=work + parts.calls(sizes, texts))


PROPOSING: dict[str, Proposing] = {"gcg": differentiating, "shorten": weighing}
ASKS = {"rewrite": (rewrite.ASKED, rewrite.PROPOSALS + rewrite.SHOWN)}
"""training rows that are answered in a round that may show some, and the prompts that it proposes"""
