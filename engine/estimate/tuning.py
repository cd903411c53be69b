"""What the training of virtual tokens needs, from the options and the rows' lengths; checks and races are the caller's.

What is counted: the activations of every block that a backward pass keeps, for what all rows share and for the rows of one
part of a batch (lessons.py cuts it, so that they are bounded); the shared keys and values repeated for these rows; the
vocabulary's predictions for every token of an answer; the virtual tokens with their optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.rows import Row
from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.scene import Asked, Scene
from engine.prompts.bounds import BACKWARD_HIDDEN, BACKWARD_WIDE, LOGITS, Bounds
from engine.prompts.options import EmbedPromptOptions

TRAINED = 4  # numbers kept for each of a virtual token: itself, the best so far, two moments
CALLS = 3  # of the model for a part of a batch: the virtual tokens, what the rows share, the rows


def training(scene: Scene, options: EmbedPromptOptions, rows: Sequence[Row], template: str, prefix: float) -> Needs:
    """Of these rows behind `prefix` tokens, the virtual ones included."""
    sizes, asked, batch = scene.sizes, scene.asked(rows, template), min(options.batch, len(rows))
    together = sequences(asked, batch, prefix, sizes.learning)
    number = 2 if sizes.compute == "bfloat16" else FLOAT
    tokens = together * asked.longest + prefix
    kept = tokens * (BACKWARD_HIDDEN * sizes.hidden * FLOAT + BACKWARD_WIDE * sizes.widest * number)
    keys = parts.REPEATED * together * (prefix + asked.longest) * sizes.keys * number
    logits = LOGITS * FLOAT * together * asked.answer * sizes.vocabulary
    virtual = options.tokens * (sizes.hidden if options.form == "soft" else sizes.keys * len(sizes.blocks))
    memory = len(sizes.blocks) * (kept + keys) + logits + FLOAT * virtual * TRAINED
    work = step(scene, asked, batch, together, prefix) * (options.epochs * -(-len(rows) // options.batch))
    return Needs(memory, disk=FLOAT * virtual * (TRAINED + 1), work=work)


def sequences(asked: Asked, batch: int, prefix: float, most: Bounds) -> float:
    """How many go through the model together, all of the longest kind: those of a row at least, those of a batch at most."""
    bounds = most.tokens / asked.longest, most.cached / (prefix + asked.longest)
    return max(asked.sequences, min(batch * asked.sequences, *bounds))


def step(scene: Scene, asked: Asked, batch: int, together: float, prefix: float) -> Work:
    """An optimizer step: no weight has a gradient, so that its products are two forwards', the attention's three."""
    sizes, cuts = scene.sizes, -(-batch * asked.sequences // together)
    tokens, length = batch * asked.sequences * asked.mean + cuts * prefix, prefix + asked.mean
    once = parts.forward(sizes, tokens, length, sizes.compute, batch * asked.sequences * asked.answer)
    attention = Work({sizes.compute: 2 * tokens * length * sizes.hidden * len(sizes.blocks)})
    return once * 2 + attention + parts.calls(sizes, 2 * CALLS * cuts)
