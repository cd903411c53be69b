"""The `recover` step. Blockwise: every block in turn learns the dense block's outputs from the inputs that the compressed
prefix gives.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine import events as ev
from engine.blockcall import BlockCall
from engine.calibration import Walk
from engine.checkpoints import BlockCheckpoints, Weights
from engine.errors import UsageError
from engine.subject import DTYPES, Subject
from engine.training import course, finetune, lowrank
from engine.training.blockwise import relative_error, train
from engine.training.masking import trainable
from engine.training.options import RecoverOptions
from engine.training.schedule import Schedule
from engine.workspace import Workspace

Batches = list[torch.Tensor]


@dataclass
class Stream:
    """A model and the calibration data on their way through it, a batch at a time."""

    walk: Walk
    hidden: Batches
    calls: list[list[BlockCall]]

    @classmethod
    def of(cls, workspace: Workspace, subject: Subject, batch: int) -> Stream:
        compute = DTYPES[workspace.profile.calibration.compute]
        walk = Walk(subject, workspace.calibration_inputs(), batch, compute, spill=workspace.spill())
        with walk.context():
            return cls(walk, *walk.enter())

    def advance(self, block: int) -> None:
        """Puts the data through a block."""
        with self.walk.context():
            self.hidden = self.walk.forward(block, self.calls[block], self.hidden, discard=True)


def run(workspace: Workspace, options: RecoverOptions) -> dict[str, Any]:
    """Trains the workspace's model in place; returns the step's summary."""
    if options.method == "finetune":
        return {"method": options.method, **finetune.run(workspace, options)}
    if options.method == "lora":
        return lowrank.run(workspace, options)
    return blockwise(workspace, options)


def blockwise(workspace: Workspace, options: RecoverOptions) -> dict[str, Any]:
    """Trains block by block."""
    check_blockwise(workspace)
    dense = Stream.of(workspace, workspace.dense_subject(), options.batch)
    mine = Stream.of(workspace, workspace.subject, options.batch)
    kept = BlockCheckpoints(workspace)
    ends = block_ends(workspace.subject, dense.walk.blocks())
    for block, end in enumerate(ends):
        for index in range(0 if block == 0 else ends[block - 1] + 1, end + 1):
            dense.advance(index)
        with mine.walk.holding(block):
            if not kept.load(block, weights(mine.walk, block)):
                recover(workspace, options, mine, targets(workspace.subject, dense.hidden), block)
                kept.save(block, weights(mine.walk, block))
            mine.advance(block)
    found = [event for event in workspace.state.recoveries if event.step == workspace.step]
    return {
        "method": options.method, "epochs": options.epochs,
        "error_before": sum(event.before for event in found) / len(found),
        "error_after": sum(event.after for event in found) / len(found),
    }  # fmt: skip


def check_blockwise(workspace: Workspace) -> None:
    """Raises UsageError for what is no language model."""
    if not workspace.subject.is_language_model:
        where, hint = f"step.{workspace.step}.method", 'method = "finetune" or "lora"'
        raise UsageError("blockwise recovery needs a language model", where=where, hint=hint)


def restore(workspace: Workspace, options: RecoverOptions) -> None:
    """Puts the weights of a finished recover step back."""
    if options.method != "blockwise":
        course.put_back(workspace)
        return
    blocks = workspace.subject.blocks()
    kept = BlockCheckpoints(workspace)
    kept.restore([dict(block.named_parameters()) for block in blocks])


def recover(workspace: Workspace, options: RecoverOptions, mine: Stream, targets: Batches, block: int) -> None:
    """Trains one block; keeps its old weights when that did not help."""
    began = time.perf_counter()
    module, calls = mine.walk.block(block), mine.calls[block]
    schedule = Schedule(options.epochs * len(targets), options.learning_rate, options.warmup, options.clip)
    done = block * schedule.steps

    def forward(index: int) -> torch.Tensor:
        return output(module, calls[index], mine.hidden[index])

    def tell() -> None:
        nonlocal done
        done += 1
        workspace.progress("recovering", done, mine.walk.blocks() * schedule.steps, "optimizer steps")

    old = {name: p.data.clone() for name, p in module.named_parameters()}
    with mine.walk.context():
        before = relative_error(forward, targets)
        with trainable(module) as (parameters, masks):
            generator = torch.Generator().manual_seed(workspace.profile.seed * 10_007 + block)
            train(forward, targets, parameters, masks, schedule, generator, tell)
        after = relative_error(forward, targets)
        if not after < before:
            for name, p in module.named_parameters():
                p.data.copy_(old[name])
            after = before
    workspace.emit(
        ev.BlockRecovered(
            step=workspace.step, block=block, before=before, after=after, seconds=round(time.perf_counter() - began, 3),
            done=block + 1, total=mine.walk.blocks(),
        )
    )  # fmt: skip


def output(module: nn.Module, call: BlockCall, hidden: torch.Tensor) -> torch.Tensor:
    """The block's output, in the number format of its weights (float32 while it is trained) and where these are: states may
    wait elsewhere.
    """
    weight = next(module.parameters())
    return call.to(weight.dtype)(module, hidden.to(weight.device, weight.dtype))


def weights(walk: Walk, block: int) -> Weights:
    """Everything in a block that training may have changed."""
    return dict(walk.block(block).named_parameters())


def block_ends(subject: Subject, dense_blocks: int) -> list[int]:
    """For every block of the model, the dense block whose output it is to have: the last before the next one that stays."""
    stay = subject.origin.blocks or list(range(dense_blocks))
    return [*(index - 1 for index in stay[1:]), dense_blocks - 1]


def targets(subject: Subject, hidden: Batches) -> Batches:
    """The dense outputs [B, T, H], in the hidden dimensions that the model still has."""
    if subject.origin.hidden is None:
        return hidden
    return [part[..., subject.origin.hidden] for part in hidden]
