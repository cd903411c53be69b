"""Whole decoder blocks: those that change what passes through them least; nothing is refitted."""

from __future__ import annotations

import re
import time
from typing import Any

import torch

from engine import events as ev
from engine.calibration import Walk
from engine.errors import UsageError
from engine.pruning.configs import Changes, Shapes, fitting, shapes_of
from engine.pruning.evidence import Evidence, best, counts
from engine.pruning.narrowing import others, prefixes
from engine.pruning.structured import Job, Smaller
from engine.subject import Origin, Subject

SCORE = "influence"


def check(job: Job) -> Changes:
    """The keys that will change, if the first blocks stay. Raises UsageError when no configuration describes the model with
    fewer blocks.
    """
    subject = job.workspace.subject
    blocks = len(subject.blocks())
    count = counts(blocks, job.options.amount, 1)[0]
    return configuration(subject, list(range(count)))


def shrink(job: Job) -> Smaller:
    workspace, began = job.workspace, time.perf_counter()
    walk = Walk.over(workspace)
    influences = influence(job, walk)
    generator = job.generator("blocks")
    evidence = Evidence(weights(workspace.subject, influences), generator, influence=influences)
    scores = job.score()(evidence)
    stay = best(scores, counts(walk.blocks(), job.options.amount, 1)[0]).tolist()
    config = configuration(workspace.subject, stay)
    kept = renamed(workspace.subject, stay)
    gone = others(torch.tensor(stay), walk.blocks())
    for index in gone:
        walk.pass_on(index)
    seconds = round(time.perf_counter() - began, 3)
    workspace.emit(
        ev.PartsRemoved(step=workspace.step, part="blocks", block=None, removed=gone, of=walk.blocks(), error=None,
                        seconds=seconds, done=1, total=1)
    )  # fmt: skip
    summary = {"parts": "blocks", "kept": len(stay), "of": walk.blocks()}
    return Smaller(config, kept, Origin(blocks=stay), summary, masked=True)


def influence(job: Job, walk: Walk) -> torch.Tensor:
    """1 - cos(input, output) of every block [P], averaged over all tokens of the calibration data."""
    out = []
    with walk.context():
        hidden, calls = walk.enter()
        for index in range(walk.blocks()):
            after = walk.forward(index, calls[index], hidden)
            pairs = zip(hidden, after, strict=True)
            cosines = [torch.cosine_similarity(a.float(), b.float(), -1).flatten() for a, b in pairs]
            out.append(1 - torch.cat(cosines).mean())
            hidden = after
            job.workspace.progress("block influence", index + 1, walk.blocks(), "blocks")
    return torch.stack(out)


def weights(subject: Subject, like: torch.Tensor) -> torch.Tensor:
    """The squared norm of every block's weights [P]."""
    totals = [sum(float(p.float().square().sum()) for p in block.parameters()) for block in subject.blocks()]
    return torch.tensor(totals).to(like)


def renamed(subject: Subject, stay: list[int]) -> dict[str, torch.Tensor]:
    """All weights, those of the blocks that stay under their new numbers."""
    blocks = prefixes(subject)
    named = ((new_name(name, blocks, stay), tensor) for name, tensor in subject.module.state_dict().items())
    return {name: tensor for name, tensor in named if name is not None}


def new_name(name: str, blocks: list[str], stay: list[int]) -> str | None:
    """A weight's name in the smaller model; None when its block goes."""
    base = re.sub(r"\d+$", "", blocks[0])
    found = re.match(rf"{re.escape(base)}(\d+)(\..*)", name)
    if not found:
        return name
    old = int(found[1])
    return f"{base}{stay.index(old)}{found[2]}" if old in stay else None


def configuration(subject: Subject, stay: list[int]) -> Changes:
    """The keys that change: the number of blocks, and lists with an entry a block. Raises UsageError without any."""
    blocks, config = prefixes(subject), subject.module.config
    expected: Shapes = {}
    for name, shape in shapes_of(subject.module).items():
        new = new_name(name, blocks, stay)
        if new is not None:
            expected[new] = shape
    changes = fitting(
        config, {len(blocks): len(stay)}, lambda shapes: shapes == expected, [per_block(config, blocks, stay)]
    )
    if changes is None:
        message = f"no configuration of this model has {len(stay)} of its {len(blocks)} blocks"
        raise UsageError(message, where="step.pattern", hint="try another pattern: compress-tui list structures")
    return changes


def per_block(config: Any, blocks: list[str], stay: list[int]) -> Changes:
    """The configuration's lists that have an entry for every block, as they are for those that stay."""
    lists = {key: value for key, value in config.to_dict().items()
             if isinstance(value, list) and len(value) == len(blocks) and not key.endswith("_id")}  # fmt: skip
    return {key: [value[index] for index in stay] for key, value in lists.items()}
