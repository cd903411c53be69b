"""The one training loop: AdamW on some weights, in an order that depends on the seed alone, with the best state kept.

It knows neither models nor data: `Objective` gives losses, `Keeper` holds a sparsity pattern, `Listener` hears. A loop that was
killed goes on from its last state and ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engine import allocator, files
from engine.errors import Cancelled, EngineError
from engine.memory import is_out_of_memory
from engine.training import kept
from engine.training.batches import batch_at, cut
from engine.training.masking import Keeper
from engine.training.schedule import Schedule
from engine.training.together import ALONE, Peers
from engine.weights import writing


class Objective(Protocol):
    """What is minimized, on items that are known by number."""

    def part(self, indices: Sequence[int], whole: int) -> torch.Tensor:
        """The loss of these items as their share of the mean over `whole` predictions, with gradients."""

    def held_out(self, together: int) -> float:
        """The mean loss on what is never trained on, so many items at a time."""


class Items(Protocol):
    """How many predictions items hold, and how much they are in the unit of throughput."""

    @property
    def train(self) -> Sequence[int]:
        """The numbers of those that are trained on."""

    def predicted(self, indices: Sequence[int]) -> int: ...

    def size(self, indices: Sequence[int]) -> int: ...


class Listener(Protocol):
    """Hears of every step and every check, and may stop the work by raising."""

    def stepped(self, done: int, loss: float, rate: float, per_second: float) -> None: ...

    def checked(self, done: int, loss: float, best: bool) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True)
class Pace:
    """Items a step, of all processes, and at a time, steps between checks and between saved states, and after how many checks
    without a better one to stop.
    """

    schedule: Schedule
    batch: int
    micro: int
    check_every: int
    save_every: int
    patience: int
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class Standing:
    """Where a training is: steps done, the best held-out loss with the step behind which it was found (None: none yet counts),
    the loss before the first step, checks since the best, and items that go through the model at a time.
    """

    micro: int
    done: int = 0
    first: float = math.nan
    best: float = math.inf
    best_at: int | None = None
    checks: int = 0
    halved: bool = False


@dataclass
class Loop:
    """`state` and `best` are the files of the last state and of the best weights; of several processes each runs the loop on
    its share of the items, and the first one writes.
    """

    weights: list[nn.Parameter]
    objective: Objective
    items: Items
    keeper: Keeper
    pace: Pace
    listener: Listener
    state: Path
    best: Path
    peers: Peers = ALONE
    at: Standing = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.at = Standing(self.pace.micro)
        decay = self.pace.weight_decay
        self.optimizer = torch.optim.AdamW(self.weights, weight_decay=decay, betas=(0.9, 0.95), fused=True)

    def run(self) -> Standing:
        """Trains to the end or until nothing gets better, and leaves the best weights that have their pattern."""
        self._begin()
        try:
            while self.at.done < self.pace.schedule.steps and self.at.checks < self.pace.patience:
                if not self._advance():
                    break  # from the last saved state it comes to the same
            else:
                if self.at.done % self.pace.save_every and self.at.done > self.pace.save_every:
                    self._save()  # a short training is not worth a state
        except Cancelled:  # between two steps: nothing of the last one is lost
            if self.at.done:
                self._save()
            raise
        if self.peers.first:
            self._put_best()
        return self.at

    def _advance(self) -> bool:
        """A step with what is due behind it; False when its loss is not finite."""
        began, step = time.perf_counter(), self.at.done
        batch = batch_at(self.items.train, self.pace.batch, self.pace.seed, step)
        loss = self._step(step, batch)
        if not math.isfinite(loss):
            self._broken()
            return False
        per_second = self.items.size(batch) / (time.perf_counter() - began)
        self.at = replace(self.at, done=step + 1)
        if self.at.done % self.pace.check_every == 0 or self.at.done == self.pace.schedule.steps:
            self._check()
        if self.at.done % self.pace.save_every == 0:
            self._save()
        self.listener.stepped(self.at.done, loss, self.pace.schedule.rate(step), per_second)
        return True

    def _begin(self) -> None:
        found = kept.restore(self.state, self.weights, self.optimizer)
        self.peers.check_same(self.weights)
        if found is None:
            first = self._check()
            self.at = replace(self.at, first=first)
            return
        about, more = found
        self.at = Standing(**about)
        self.keeper.restore(more.get("pattern", []))

    def _save(self) -> None:
        if self.peers.first:
            kept.save(self.state, self.weights, self.optimizer, asdict(self.at), pattern=self.keeper.tensors())

    def _step(self, step: int, batch: Sequence[int]) -> float:
        """One optimizer step; the loss before it, NaN when a gradient is not finite (then nothing is changed)."""
        self.keeper.before(step)
        loss = self._backward(batch)
        self.keeper.gradients(step, self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.weights, self.pace.schedule.clip)
        if not bool(torch.isfinite(norm)):
            return math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.schedule.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.keeper.after(step)
        return loss

    def _backward(self, batch: Sequence[int]) -> float:
        """The batch's mean loss, its gradients in the weights. When memory runs out, once, half as many items go through the
        model at a time, in every process.
        """
        while True:
            loss = self._accumulate(batch)
            if not self.peers.anyone(loss is None):
                return self.peers.summed(loss or 0.0, self.weights)
            if self.at.halved or self.at.micro == 1:
                hint = "lower batch or length, or gradient_checkpointing = true"
                raise EngineError(f"memory ran out in step {self.at.done + 1}", hint=hint)
            self.at = replace(self.at, micro=-(-self.at.micro // 2), halved=True)
            told = f"{self.at.micro} instead of {self.pace.micro} items go through the model at a time from now on"
            self.listener.warn(f"memory ran out: {told}")
            self.optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, batch: Sequence[int]) -> float | None:
        """This process's share of the loss and of the gradients; None when memory runs out."""
        whole, total = self.items.predicted(batch), 0.0
        try:
            for part in cut(self.peers.share(batch), self.at.micro):
                loss = self.objective.part(part, whole)
                torch.autograd.backward(loss)
                total += float(loss.detach())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total

    def _held_out(self) -> float:
        with self.keeper.shown():
            return self.objective.held_out(self.at.micro)

    def _check(self) -> float:
        """Judges the weights, and keeps them where they are the best that have their pattern."""
        done, settled = self.at.done, self.keeper.settled(self.at.done)
        loss = self.peers.agreed(self._held_out)
        better = settled and loss < self.at.best
        if better:
            self._keep_best()
            self.at = replace(self.at, best=loss, best_at=done, checks=0)
        elif settled and done:
            self.at = replace(self.at, checks=self.at.checks + 1)
        self.listener.checked(done, loss, better)
        return loss

    def _keep_best(self) -> None:
        if self.peers.first:
            with self.keeper.shown(), writing(self.best):
                stored = {str(i): weight.detach().cpu().contiguous() for i, weight in enumerate(self.weights)}
                files.write_with(self.best, lambda part: save_file(stored, part))

    def _broken(self) -> None:
        step = self.at.done + 1
        if self.at.best_at is None:
            raise EngineError(f"the loss is not finite at step {step}", hint="lower the learning rate")
        message = f"the loss is not finite at step {step}: the weights are those of step {self.at.best_at}"
        self.listener.warn(f"{message}; a lower learning rate may help")

    def _put_best(self) -> None:
        if self.at.best_at is None:
            raise EngineError("the training ended before its pattern was complete", hint="more steps")
        self.optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)
        allocator.trim()  # the file's pages count beside what the training held
        best = load_file(self.best)
        for index, weight in enumerate(self.weights):
            weight.data.copy_(best[str(index)])
