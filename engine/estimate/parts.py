"""The parts that steps are made of: a model's forward, a calibration pass, a solver, text and tasks scored.

Constants are counts of what the code keeps or passes over, checked against runs by bench/estimates.py.

Shapes: T tokens, O out, I in.
"""

from __future__ import annotations

from collections.abc import Callable

from engine import grams
from engine.estimate.needs import Needs, Work
from engine.estimate.sizes import Sizes
from engine.evaluation.speed import DECODE, PREFILL, REPEATS
from engine.matrices import SAMPLE
from engine.pruning.options import PruneOptions

FLOAT = 4  # bytes of a float32
PASSES_HIDDEN, PASSES_WIDE = 24, 8  # numbers read or written for each of a token in a block, beside the products
KEPT_HIDDEN, KEPT_WIDE = 6, 4  # numbers held at one time for each of a token in a block
SELECT = 400  # bytes passed over to sort a weight among its competitors and to check the result
GRAM = 5 / 8  # of a full product: the lower blocks are mirrored
READING = Work(fixed=1.5)  # a text of a megabyte read and tokenized
LOADING = 4  # how often a model's bytes are passed over until it is loaded and checked
REPEATED = 1.5  # keys and values while a batch's rows are appended to the repeated prefix


def forward(sizes: Sizes, tokens: float, length: float, dtype: str, head: float) -> Work:
    """`tokens` through all blocks in sequences of `length`, and `head` of them through the vocabulary."""
    blocks = 2 * tokens * sizes.matrix_weights * sizes.active
    attention = 2 * tokens * length * sizes.hidden * len(sizes.blocks)
    numbers = tokens * len(sizes.blocks) * (PASSES_HIDDEN * sizes.hidden + PASSES_WIDE * sizes.widest)
    traffic = numbers * FLOAT + 3 * FLOAT * head * sizes.vocabulary
    return Work({dtype: blocks + attention + 2 * head * sizes.embedding}, traffic)


def activations(sizes: Sizes, tokens: float, number: int) -> float:
    """Bytes held inside a block for so many tokens."""
    return tokens * (KEPT_HIDDEN * sizes.hidden * FLOAT + KEPT_WIDE * sizes.widest * number)


def text(sizes: Sizes, windows: int, length: int) -> Needs:
    """Perplexity: one window at a time, its logits [length, vocabulary] also in float32 and as log-probabilities; all windows'
    hidden states wait where each block is read for all of them.
    """
    logits = length * sizes.vocabulary * (2 * FLOAT + (sizes.number if sizes.number != FLOAT else 0))
    work = forward(sizes, windows * length, length, sizes.dtype, windows * length)
    found = Needs(logits + activations(sizes, length, sizes.number), work=READING + work + calls(sizes, windows))
    return found.during(waiting(sizes, windows * length, sizes.number)) if sizes.streamed else found


def rows(sizes: Sizes, count: float, tokens: float, prefix: float = 0.0, prompts: float = 1) -> Needs:
    """Scored sequences of `tokens` behind a prefix that each of the prompts shares, in batches."""
    batches = -(-count * tokens // sizes.scored.tokens)
    work = forward(sizes, count * tokens + prompts * prefix, tokens + prefix, sizes.dtype, count)
    held = min(sizes.scored.cached, sizes.scored.tokens / max(1.0, tokens) * (prefix + tokens)) if prefix else 0.0
    keys = REPEATED * held * sizes.keys * len(sizes.blocks) * sizes.number
    memory = activations(sizes, min(sizes.scored.tokens, count * tokens), sizes.number) + keys
    return Needs(memory, work=work + calls(sizes, batches + prompts))


def answers(sizes: Sizes, count: float, tokens: float, prefix: float, prompts: float, length: int) -> Needs:
    """The same rows, each gone on from by `length` tokens: a token a call of a batch, which reads all weights."""
    batches = max(
        prompts, count * tokens / sizes.scored.tokens, count * (prefix + tokens + length) / sizes.scored.cached
    )
    steps = batches * length
    work = forward(sizes, count * length, prefix + tokens, sizes.dtype, count * length)
    decoded = work + Work(traffic=steps * sizes.parameters * sizes.number) + calls(sizes, steps)
    return rows(sizes, count, tokens, prefix, prompts).then(Needs(work=decoded))


def speed(sizes: Sizes) -> Needs:
    """Prefill, and decoding, which reads every weight for every token."""
    rounds = REPEATS + 1
    prefill = forward(sizes, rounds * PREFILL, PREFILL, sizes.dtype, rounds)
    decode = Work({}, rounds * DECODE * sizes.parameters * sizes.number)
    return Needs(activations(sizes, PREFILL, sizes.number), work=prefill + decode + calls(sizes, rounds * (1 + DECODE)))


def calls(sizes: Sizes, count: float) -> Work:
    """So many calls of the whole model."""
    return Work(calls=count * len(sizes.blocks))


def calibration_pass(sizes: Sizes, gram: bool) -> Needs:
    """The calibration data once through the model (its products twice when chunked), with the statistics of every input."""
    chunks = -(-sizes.samples // sizes.chunk)
    chunk_tokens, number = sizes.chunk * sizes.length, 2 if sizes.compute == "bfloat16" else FLOAT
    twice = 1 if chunks == 1 else 2
    work = forward(sizes, sizes.tokens, sizes.length, sizes.compute, 0) * twice + calls(sizes, chunks * twice)
    memory = activations(sizes, chunk_tokens, number)
    widths = [group[0][1] for group in sizes.groups]
    if gram:
        products = sum(2 * sizes.tokens * sizes.active * width**2 * GRAM for width in widths)
        work += Work({"float32": products})
        memory += FLOAT * (chunk_tokens * max(widths, default=0) + gram_numbers(sizes, chunks > 1))
    return Needs(memory, work=work).during(waiting(sizes, sizes.tokens) if chunks > 1 else Needs())


def waiting(sizes: Sizes, tokens: float, number: int = FLOAT) -> Needs:
    """Hidden states of so many tokens between two blocks."""
    states = tokens * sizes.hidden * number
    return Needs(scratch=states) if sizes.spilled else Needs(states)


def loading(sizes: Sizes) -> Needs:
    """Another model read from disk; its own bytes are the caller's, what is held here is one copied matrix."""
    return Needs(sizes.embedding * sizes.number, work=Work(traffic=LOADING * sizes.parameters * sizes.number))


def gram_numbers(sizes: Sizes, whole_block: bool) -> int:
    """Numbers in the Gram matrices that are held together: of one group, or of all of a block."""
    squares = [group[0][1] ** 2 for group in sizes.groups]
    if not whole_block:
        return max(squares, default=0)
    return sum(squares) // max(1, len(sizes.blocks)) + max(squares, default=0)


def statistics_bytes(sizes: Sizes) -> int:
    """The cache of one calibration pass."""
    return grams.entry_bytes((group[0][1] for group in sizes.groups), sizes.tokens)


Cost = Callable[[int, int, PruneOptions], Work]


def _sparsegpt(rows: int, width: int, options: PruneOptions) -> Work:
    """Two Cholesky factors and an inverse; the error of every column goes to all columns right of it, group by group."""
    return Work({"float32": 4 / 3 * width**3 + 2 * rows * width**2}, FLOAT * rows * width * 64)


def _admm(rows: int, width: int, options: PruneOptions) -> Work:
    """One eigendecomposition, a product and a projection an iteration, a product a conjugate-gradient step."""
    product = 2 * rows * width**2
    decomposed = 30 * width**3 + options.iterations / 3 * 2 * width**3
    passes = FLOAT * rows * width * (20 * options.iterations + 12 * options.polish)
    return Work({"float32": decomposed + (options.iterations + options.polish + 1) * product}, passes)


SOLVERS: dict[str, Cost] = {"sparsegpt": _sparsegpt, "admm": _admm}
"""what solvers compute for the matrices [O, I] that share an input; one that is not here counts as sparsegpt"""
HELD = {"sparsegpt": (4, 3), "admm": (8, 6)}
"""copies of the weights and of the Gram matrix that a solver holds"""


def solved(sizes: Sizes, options: PruneOptions, solver: bool) -> Needs:
    """Every group's weights scored or solved, and the error of their outputs measured on some rows."""
    work, memory = Work(), 0.0
    weights, grams = HELD.get(options.criterion, HELD["sparsegpt"]) if solver else (4, 0)
    for group in sizes.groups:
        count, width = sum(shape[0] for shape in group), group[0][1]
        memory = max(memory, FLOAT * (weights * count * width + grams * width**2))
        if solver:
            work += SOLVERS.get(options.criterion, _sparsegpt)(count, width, options)
    checked = Work({"float32": 4 * min(SAMPLE, sizes.tokens) * sizes.matrix_weights}, SELECT * sizes.matrix_weights)
    return Needs(memory, work=work + checked)
