"""Trains virtual tokens by AdamW on a task's training rows, checks them every epoch, and ends with the best.

The model's weights are never touched. Every epoch is kept on disk: a training that was stopped goes on from the last one
and ends with the same numbers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from engine import files
from engine.prompts.lessons import Lessons
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.race import Standing
from engine.prompts.soft import Soft
from engine.training.blockwise import Schedule
from engine.weights import writing

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: the mean loss of its rows (None before the first) and the check; `best` so far or not."""

    number: int
    loss: float | None
    standing: Standing
    best: bool
    seconds: float


@dataclass
class Memory:
    """Where a training is, and the best so far."""

    start: Soft
    device: torch.device
    epoch: int = 0
    best_skill: float = -math.inf
    best_epoch: int = 0
    best_NW: torch.Tensor = field(init=False)
    weight_NW: nn.Parameter = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.best_NW = self.start.weight_NW
        self.weight_NW = nn.Parameter(self.start.weight_NW.clone().to(self.device))
        self.optimizer = torch.optim.AdamW([self.weight_NW], weight_decay=0.0, betas=(0.9, 0.95))

    @property
    def live(self) -> Soft:
        """The virtual tokens as they are being trained, gradients and all."""
        return replace(self.start, weight_NW=self.weight_NW)

    def snapshot(self) -> Soft:
        """A copy of them as they are now."""
        return replace(self.start, weight_NW=self.weight_NW.detach().cpu().clone())

    def save(self, file: Path) -> None:
        tensors = {
            "weight": self.weight_NW.detach(),
            "best": self.best_NW,
            **self.optimizer.state.get(self.weight_NW, {}),
        }
        stored = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
        about = json.dumps({"epoch": self.epoch, "best_epoch": self.best_epoch, "best_skill": self.best_skill})
        with writing(file):
            files.write_with(file, lambda part: save_file(stored, part, {"training": about}))

    def restore(self, file: Path) -> bool:
        """Goes on from what `save` wrote; False when there is nothing."""
        if not file.is_file():
            return False
        with safe_open(file, "pt") as stored:
            about = json.loads(stored.metadata()["training"])
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        self.epoch, self.best_epoch, self.best_skill = about["epoch"], about["best_epoch"], about["best_skill"]
        self.best_NW = found["best"]
        self.weight_NW.data.copy_(found["weight"])
        if all(name in found for name in MOMENTS):
            moments = {name: found[name].to(self.device) for name in MOMENTS[1:]}
            self.optimizer.state[self.weight_NW] = {"step": found["step"], **moments}
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
    check: Callable[[Soft], Standing]
    tell: Callable[[Epoch], None]
    step: Callable[[int, int], None]
    warn: Callable[[str], None]

    def run(self, start: Soft) -> Soft:
        """The best of the start and all epochs, by skill on the checked rows; of equal ones the earliest."""
        memory = Memory(start, self.lessons.subject.device)
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
        return replace(start, weight_NW=memory.best_NW)

    def _judge(self, memory: Memory, loss: float | None, began: float) -> None:
        """Checks where the training is, remembers it if it is the best, and keeps all of it."""
        soft = memory.snapshot()
        standing = self.check(soft)
        best = standing.skill > memory.best_skill
        if best:
            memory.best_NW, memory.best_skill, memory.best_epoch = soft.weight_NW, standing.skill, memory.epoch
        self.tell(Epoch(memory.epoch, loss, standing, best, time.perf_counter() - began))
        memory.save(self.file)  # last: an epoch that is kept has been told, one that is told twice counts once

    def _epoch(self, memory: Memory) -> float | None:
        """One pass over the rows in an order of its own; the mean loss, None as soon as something is not finite."""
        options, rows = self.options, len(self.lessons.gold)
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
        loss, memory.weight_NW.grad = self._gradient(memory, batch)
        norm = nn.utils.clip_grad_norm_([memory.weight_NW], self.options.clip)
        if not bool(torch.isfinite(norm)):
            return math.nan
        for group in memory.optimizer.param_groups:
            group["lr"] = rate
        memory.optimizer.step()
        memory.optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradient(self, memory: Memory, batch: list[int]) -> tuple[float, torch.Tensor]:
        """The batch's mean loss and its gradient, summed over parts whose activations fit in memory together."""
        total, gradient_NW = 0.0, torch.zeros_like(memory.weight_NW)
        for part in self.lessons.parts(batch, memory.start.tokens):
            with torch.enable_grad():
                loss = self.lessons.loss(memory.live, part) * (len(part) / len(batch))
            gradient_NW += torch.autograd.grad(loss, [memory.weight_NW])[0]
            total += float(loss.detach())
        return total, gradient_NW
