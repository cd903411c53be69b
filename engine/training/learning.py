"""What is to be learned: a model's loss on items of the material, in the number format that options allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from engine.evaluation.divergence import two_sided
from engine.fitting import fast_compute
from engine.subject import DTYPES, Subject
from engine.training.losses import Predictions
from engine.training.material import IGNORED, Material
from engine.training.options import TrainingOptions

Loss = Callable[[Predictions], torch.Tensor]
"""the sum over all predictions"""


@dataclass(frozen=True)
class Learning:
    """`loss` on the answers of `subject`; `hidden` where it looks at the states between blocks too."""

    subject: Subject
    material: Material
    loss: Loss
    compute: torch.dtype
    checkpointing: bool = False
    hidden: bool = False

    @classmethod
    def of(
        cls, subject: Subject, material: Material, loss: Loss, options: TrainingOptions, hidden: bool = False
    ) -> Learning:
        return cls(subject, material, loss, number_format(subject, options), options.gradient_checkpointing, hidden)

    def part(self, indices: Sequence[int], whole: int) -> torch.Tensor:
        """The loss of these items as their share of the mean over `whole` predictions."""
        with torch.enable_grad(), checkpointed(self.subject, self.checkpointing):
            return self.loss(self.answers(indices)) / whole

    def held_out(self, together: int) -> float:
        """The mean loss on what is never trained on, so many items at a time."""
        held, total = self.material.held, 0.0
        with torch.no_grad():
            for start in range(0, len(held), together):
                total += float(self.loss(self.answers(held[start : start + together])))
        return total / self.material.predicted(held)

    def answers(self, indices: Sequence[int]) -> Predictions:
        return answers(self.subject, self.material, indices, self.compute, self.hidden)


def number_format(subject: Subject, options: TrainingOptions) -> torch.dtype:
    """In which products are computed; modules other than language models are too small to gain from a shorter one."""
    if options.compute != "auto":
        return DTYPES[options.compute]
    return fast_compute(subject.device) if subject.is_language_model else torch.float32


def answers(
    subject: Subject, material: Material, indices: Sequence[int], compute: torch.dtype, hidden: bool = False
) -> Predictions:
    """What a model predicts for the items, place by place."""
    device = subject.device
    inputs, targets = (tensor.to(device) for tensor in material.batch(indices))
    states: tuple[torch.Tensor, ...] = ()
    with torch.autocast(device.type, dtype=compute, enabled=compute != torch.float32):
        if subject.is_language_model:
            found = subject.module(input_ids=inputs, use_cache=False, output_hidden_states=hidden)
            logits, states = found.logits.flatten(0, 1), found.hidden_states[1:] if hidden else ()
        else:
            logits = two_sided(subject.module(inputs))
    targets = targets.flatten()
    asked = targets != IGNORED
    if not bool(asked.all()):
        logits, targets = logits[asked], targets[asked]
    return Predictions(logits, targets, indices, states)


@contextmanager
def checkpointed(subject: Subject, wanted: bool) -> Iterator[None]:
    """Inside, a block keeps nothing but its input for the backward pass and is computed again there (Chen et al. 2016,
    arXiv 1604.06174).
    """
    blocks = subject.blocks() if wanted else []
    try:
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)
