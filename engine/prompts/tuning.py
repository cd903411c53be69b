"""Trains virtual tokens, or weights added to a model, by AdamW on a task's training rows, checks them every epoch, and ends
with the best.

The model's own weights are never touched. Every epoch is kept on disk: a training that was stopped goes on from the last
one and ends with the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from engine.prompts.bounds import in_halves
from engine.prompts.judging import Standing
from engine.prompts.lessons import Lessons
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.soft import Soft
from engine.training import kept
from engine.training.schedule import Schedule


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: the mean loss of its rows (None before the first) and the check; `best` so far or not."""

    number: int
    loss: float | None
    standing: Standing
    best: bool
    seconds: float


@dataclass(frozen=True)
class Trainee:
    """What a training changes: the numbers of virtual tokens (`soft`, as they begin), or weights that are in the model."""

    weights: list[nn.Parameter]
    soft: Soft | None = None

    @classmethod
    def virtual(cls, soft: Soft, device: torch.device) -> Trainee:
        return cls([nn.Parameter(soft.weight_NW.clone().to(device))], soft)

    @property
    def tokens(self) -> int:
        """How many virtual ones."""
        return self.soft.tokens if self.soft else 0

    @property
    def live(self) -> Soft | None:
        """The virtual tokens as they are being trained, gradients and all."""
        return replace(self.soft, weight_NW=self.weights[0]) if self.soft else None

    def snapshot(self) -> list[torch.Tensor]:
        """A copy of the numbers as they are now."""
        return [weight.detach().cpu().clone() for weight in self.weights]

    def put(self, numbers: Sequence[torch.Tensor]) -> None:
        """Makes the weights these numbers."""
        for weight, found in zip(self.weights, numbers, strict=True):
            weight.data.copy_(found)


@dataclass
class Memory:
    """Where a training is, and the best so far."""

    trainee: Trainee
    epoch: int = 0
    best_skill: float = -math.inf
    best_epoch: int = 0
    best: list[torch.Tensor] = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.best = self.trainee.snapshot()
        self.optimizer = torch.optim.AdamW(self.trainee.weights, weight_decay=0.0, betas=(0.9, 0.95))

    def save(self, file: Path) -> None:
        about = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_skill": self.best_skill}
        kept.save(file, self.trainee.weights, self.optimizer, about, best=self.best)

    def restore(self, file: Path) -> bool:
        """Goes on from what `save` wrote; False when there is nothing."""
        found = kept.restore(file, self.trainee.weights, self.optimizer)
        if found is None:
            return False
        about, more = found
        self.epoch, self.best_epoch, self.best_skill = about["epoch"], about["best_epoch"], about["best_skill"]
        self.best = more["best"]
        return True


@dataclass
class Tuning:
    """`check` judges on rows that are not trained on; `tell` hears of every epoch, `step(done, total)` of every optimizer
    step and may stop the work by raising. `file` is where the last epoch is kept.
    """

    lessons: Lessons
    options: EmbedPromptOptions
    seed: int
    file: Path
    check: Callable[[Soft | None], Standing]
    tell: Callable[[Epoch], None]
    step: Callable[[int, int], None]
    warn: Callable[[str], None]
    halved: bool = False

    def run(self, trainee: Trainee) -> list[torch.Tensor]:
        """The best numbers of the start and all epochs, by skill on the checked rows; of equal ones the earliest. The
        trainee has them in the end.
        """
        memory = Memory(trainee)
        if not memory.restore(self.file):
            self._judge(memory, None, time.perf_counter())
        while memory.epoch < self.options.epochs and memory.epoch - memory.best_epoch < self.options.patience:
            began = time.perf_counter()
            loss = self._epoch(memory)
            if loss is None:
                self.warn(f"the loss is not finite in epoch {memory.epoch + 1}: the best until then stays")
                break
            memory.epoch += 1
            self._judge(memory, loss, began)
        trainee.put(memory.best)
        return memory.best

    def _judge(self, memory: Memory, loss: float | None, began: float) -> None:
        """Checks where the training is, remembers it if it is the best, and keeps all of it."""
        numbers, soft = memory.trainee.snapshot(), memory.trainee.soft
        standing = self.check(replace(soft, weight_NW=numbers[0]) if soft else None)
        best = standing.skill > memory.best_skill
        if best:
            memory.best, memory.best_skill, memory.best_epoch = numbers, standing.skill, memory.epoch
        self.tell(Epoch(memory.epoch, loss, standing, best, time.perf_counter() - began))
        memory.save(self.file)  # last: an epoch that is kept has been told, one that is told twice counts once

    def _epoch(self, memory: Memory) -> float | None:
        """One pass over the rows in an order of its own; the mean loss, None as soon as something is not finite."""
        options, rows = self.options, len(self.lessons.sequences)
        steps = -(-rows // options.batch)
        schedule = Schedule(options.epochs * steps, options.learning_rate, options.warmup, options.clip)
        generator = torch.Generator().manual_seed(self.seed * 10_007 + memory.epoch)
        order = torch.randperm(rows, generator=generator).tolist()
        total = 0.0
        for index in range(steps):
            batch = order[index * options.batch : (index + 1) * options.batch]
            done = memory.epoch * steps + index
            loss = self._update(memory, batch, schedule.rate(done))
            if not math.isfinite(loss):
                return None
            total += loss * len(batch)
            self.step(done + 1, schedule.steps)
        return total / rows

    def _update(self, memory: Memory, batch: list[int], rate: float) -> float:
        """One optimizer step; the loss before it, NaN when loss or gradient is not finite (then nothing is changed)."""
        weights = memory.trainee.weights
        loss, gradients = self._gradient(memory, batch)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        norm = nn.utils.clip_grad_norm_(weights, self.options.clip)
        if not bool(torch.isfinite(norm)):
            return math.nan
        for group in memory.optimizer.param_groups:
            group["lr"] = rate
        memory.optimizer.step()
        memory.optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradient(self, memory: Memory, batch: list[int]) -> tuple[float, list[torch.Tensor]]:
        """The batch's mean loss and its gradients, summed over parts whose activations fit in memory together."""
        trainee = memory.trainee
        total, gradients = 0.0, [torch.zeros_like(weight) for weight in trainee.weights]

        def learned(part: list[int]) -> list[tuple[float, tuple[torch.Tensor, ...]]]:
            with torch.enable_grad():
                loss = self.lessons.loss(trainee.live, part) * (len(part) / len(batch))
            return [(float(loss.detach()), torch.autograd.grad(loss, trainee.weights))]

        for part in self.lessons.parts(batch, trainee.tokens):
            halves = in_halves(learned, part)
            if len(halves) > 1 and not self.halved:
                self.halved = True
                self.warn("memory ran out: parts of a batch are halved, which another run may not do to the last bit")
            for loss, found in halves:
                for gradient, new in zip(gradients, found, strict=True):
                    gradient += new
                total += loss
        return total, gradients
