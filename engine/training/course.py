"""A training as part of a step: files under checkpoints/, events, the summary, and the weights it ends with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from engine import events as ev
from engine import files
from engine.errors import EngineError
from engine.training.learning import Learning
from engine.training.loop import Loop, Pace, Standing
from engine.training.masking import FixedMasks, Keeper, trainable
from engine.training.options import TrainingOptions
from engine.training.schedule import Schedule
from engine.training.together import peers
from engine.weights import writing
from engine.workspace import UNFINISHED, Workspace

APART = 0.5  # seconds between two events of training losses, at least
STATE, BEST = (UNFINISHED + name for name in ("training.safetensors", "best.safetensors"))
TRAINED = "trained.safetensors"


@dataclass
class Told:
    """Emits what a loop says; losses of steps that follow each other within a moment as their mean."""

    workspace: Workspace
    steps: int
    unit: str
    losses: list[float] = field(default_factory=list)
    last: float = 0.0

    def stepped(self, done: int, loss: float, rate: float, per_second: float) -> None:
        self.losses.append(loss)
        self.workspace.check_stop()
        now = time.monotonic()
        if now - self.last < APART and done < self.steps:
            return
        mean, self.last, self.losses = sum(self.losses) / len(self.losses), now, []
        self._tell(done, "train", mean, rate=rate, per_second=per_second)

    def checked(self, done: int, loss: float, best: bool) -> None:
        self._tell(done, "held out", loss, best=best)
        self.workspace.check_stop()

    def warn(self, message: str) -> None:
        self.workspace.log(message, "warning")

    def _tell(self, done: int, part: str, loss: float, **more: Any) -> None:
        step, steps, unit = self.workspace.step, self.steps, self.unit
        self.workspace.emit(ev.LossMeasured(step=step, done=done, total=steps, part=part, loss=loss, unit=unit, **more))


def whole(workspace: Workspace, options: TrainingOptions, learning: Learning) -> dict[str, Any]:
    """Trains every weight of the learning's subject, zeros kept; returns the summary."""
    with trainable(learning.subject.module) as (weights, masks):
        standing = trained(workspace, options, learning, weights, FixedMasks(weights, masks))
    return summary(workspace, options, standing)


def trained(
    workspace: Workspace, options: TrainingOptions, learning: Learning, weights: list[nn.Parameter], keeper: Keeper
) -> Standing:
    """Runs the loop over these weights, from where an earlier process left it."""
    material = learning.material
    how = pace(workspace, options)
    if len(material.train) < how.batch:
        workspace.log(f"there are {len(material.train)} windows or rows to train on: so many are a batch", "warning")
    state, best = workspace.checkpoint(STATE), workspace.checkpoint(BEST)
    told = Told(workspace, options.steps, material.unit)
    with peers(workspace) as together:
        return Loop(weights, learning, material, keeper, how, told, state, best, together).run()


def pace(workspace: Workspace, options: TrainingOptions) -> Pace:
    schedule = Schedule(options.steps, options.learning_rate, options.warmup, options.clip)
    micro = min(options.micro_batch or options.batch, options.batch)
    batch = options.batch * workspace.profile.processes
    return Pace(schedule, batch, micro, options.check_every, options.save_every, options.patience,
                options.weight_decay, workspace.profile.seed)  # fmt: skip


def summary(workspace: Workspace, options: TrainingOptions, standing: Standing) -> dict[str, Any]:
    """What the step's line says of a training."""
    if standing.best_at == 0:
        workspace.log("the training made nothing better on held-out data: the old weights stay", "warning")
    return {
        "data": options.data, "steps": standing.done, "best_step": standing.best_at,
        "held_out_before": standing.first, "held_out_after": standing.best,
    }  # fmt: skip


def keep(workspace: Workspace) -> None:
    """Writes the weights and buffers that the step ends with. The training's state stays until the step is finished: who is
    killed while they are measured has nothing to train again.
    """
    parameters = {name for name, _ in workspace.subject.module.named_parameters()}
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in workspace.subject.tensors()}
    stored |= {name: tensor.clone() for name, tensor in stored.items() if name not in parameters}  # may share memory
    file = workspace.checkpoint(TRAINED)
    with writing(file):
        files.write_with(file, lambda part: save_file(stored, part))


def put_back(workspace: Workspace) -> None:
    """The weights of a finished step. Raises EngineError when they are gone."""
    file = workspace.checkpoint(TRAINED)
    if not file.is_file():
        raise EngineError("the checkpoint of the trained weights is gone", where=str(file), hint="start a new run")
    stored = load_file(file)
    for name, tensor in workspace.subject.tensors():
        tensor.copy_(stored[name])
