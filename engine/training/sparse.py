"""The `sparse_train` step: the mask is found while the weights are trained, from a pretrained model or from scratch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine import events as ev
from engine.calibration import Walk
from engine.errors import UsageError
from engine.pruning.criterion import generator
from engine.pruning.masks import Pattern
from engine.pruning.step import check_options, check_result, sparsity_of
from engine.training import course, sparsifying
from engine.training.learning import Learning
from engine.training.losses import right_answers
from engine.training.masking import Keeper, Mask, trainable
from engine.training.material import material
from engine.training.options import SparseTrainOptions
from engine.training.sparsifying import Moving, Part, StraightThrough, parts_of
from engine.workspace import Workspace


def run(workspace: Workspace, options: SparseTrainOptions) -> dict[str, Any]:
    """Trains the workspace's model in place; returns the step's summary."""
    subject = workspace.subject
    if options.start == "scratch":
        begin_anew(workspace)
    learning = Learning.of(subject, material(workspace, options), right_answers, options)
    pattern = Pattern(options.pruning.amount, options.pruning.n_of_m, threshold=options.threshold)
    with trainable(subject.module) as (weights, masks):
        matrices = Walk.over(workspace).matrices
        check_options(matrices, options.pruning)
        parts = parts_of(matrices, weights)
        keeper = keeper_of(workspace, options, pattern, weights, masks, parts)
        standing = course.trained(workspace, options, learning, weights, keeper)
        sparsity = tell(workspace, pattern, weights, parts)
    course.keep(workspace)
    summary = {"method": options.method, "pattern": options.pattern, "sparsity": sparsity}
    return {**summary, **course.summary(workspace, options, standing)}


def restore(workspace: Workspace, options: SparseTrainOptions) -> None:
    """Puts the weights of a finished step back."""
    course.put_back(workspace)


def keeper_of(
    workspace: Workspace, options: SparseTrainOptions, pattern: Pattern, weights: list[nn.Parameter],
    masks: list[Mask], parts: list[Part]
) -> Keeper:  # fmt: skip
    """Who moves the masks; every weight with a part gets one."""
    for number in {part.number for part in parts}:
        if masks[number] is None:
            masks[number] = torch.ones_like(weights[number], dtype=torch.bool)
    until = max(1, round(options.update_until * options.steps))
    if options.method == "straight_through":
        return StraightThrough(weights, masks, parts, pattern, until)
    if options.method == "rigl":
        begin_sparse(workspace, options, pattern, weights, masks, parts)
        rule = sparsifying.rigl(options.drop)
    elif options.method == "threshold":
        assert options.threshold is not None
        rule = sparsifying.threshold(options.threshold)
    else:
        rule = sparsifying.gradual(pattern, {p.name: sparsity_of(p.view(weights[p.number].data)) for p in parts})
    return Moving(weights, masks, parts, rule, options.update_every, until)


@torch.no_grad()
def begin_sparse(
    workspace: Workspace, options: SparseTrainOptions, pattern: Pattern, weights: list[nn.Parameter],
    masks: list[Mask], parts: list[Part]
) -> None:  # fmt: skip
    """RigL is sparse from the first step on: at random from scratch, else the largest weights."""
    for part in parts:
        weight_OI, mask = part.view(weights[part.number].data), masks[part.number]
        assert mask is not None
        random = torch.rand(part.shape, generator=generator(workspace.profile.seed, part.name)).to(weight_OI.device)
        keep_OI = pattern.keep(random if options.start == "scratch" else weight_OI.abs())
        part.view(mask).copy_(keep_OI)
        weight_OI.mul_(keep_OI)


def check_anew(workspace: Workspace) -> None:
    """Raises UsageError for language models, and modules that cannot be begun anew."""
    subject, where, hint = workspace.subject, f"step.{workspace.step}.start", 'start = "pretrained"'
    if subject.is_language_model:
        raise UsageError("language models are not trained from scratch here", where=where, hint=hint)
    for module in subject.module.modules():
        if module._parameters and not hasattr(module, "reset_parameters"):
            message = f"{type(module).__name__} has weights and no reset_parameters()"
            raise UsageError(message, where=where, hint=hint)


def begin_anew(workspace: Workspace) -> None:
    """Random weights, by the profile's seed."""
    check_anew(workspace)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workspace.profile.seed)
        for module in workspace.subject.module.modules():
            begin = getattr(module, "reset_parameters", None)
            if begin is not None:
                begin()


def tell(workspace: Workspace, pattern: Pattern, weights: list[nn.Parameter], parts: list[Part]) -> float:
    """Asserts the pattern of every matrix and says its sparsity; returns that of all together."""
    zeros = total = 0
    for done, part in enumerate(parts):
        weight_OI = part.view(weights[part.number].data)
        check_result(part.name, weight_OI, pattern)
        zeros, total = zeros + int((weight_OI == 0).sum()), total + weight_OI.numel()
        workspace.emit(
            ev.LayerPruned(
                step=workspace.step, layer=part.name, block=part.block, shape=list(part.shape),
                sparsity=sparsity_of(weight_OI), error=None, seconds=0.0, done=done + 1, total=len(parts),
            )
        )  # fmt: skip
    return zeros / total
