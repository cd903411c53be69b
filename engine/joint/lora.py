"""Low-rank weights (Hu et al. 2021, arXiv 2106.09685) of a soft prompt's size, trained as it is, for comparison.

They stand in a level's model while they are trained and tested, and are taken out again: the level's weights stay as they
were, to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from engine import files, runs
from engine.calibration import Walk
from engine.errors import EngineError, UsageError
from engine.events.joint import LORA
from engine.joint.grid import Cell, Meeting
from engine.joint.options import JointOptions
from engine.joint.tuned import Tuned
from engine.prompts.contest import Contest, prefix
from engine.prompts.embed import Embedding
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft
from engine.prompts.tuning import Trainee
from engine.weights import weights_hash
from engine.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """The modules that get low-rank weights, their rank, and how many numbers that makes."""

    modules: list[str]
    rank: int
    numbers: int


def cell_at(workspace: Workspace, options: JointOptions, found: Tuned) -> Cell:
    """The level's cell for low-rank weights behind its best text."""
    file = workspace.checkpoint("lora.json")
    record = runs.read_json(file)
    if record is None:
        record = asdict(made(workspace, options, found))
        files.write_text(file, json.dumps(record))
    return Cell(**record)


def made(workspace: Workspace, options: JointOptions, found: Tuned) -> Cell:
    """Trained and tested. Raises EngineError when the level's own weights are not what they were."""
    embedding, soft = options.embedding(), found.soft.soft if found.soft else None
    assert embedding is not None
    assert soft is not None
    before = weights_hash(workspace.subject.module)
    plan = plan_for(workspace, soft)
    told = f"{plan.numbers} numbers of rank {plan.rank} in {len(plan.modules)} matrices"
    workspace.log(f"low-rank weights: {told}, beside the soft prompt's {soft.weight_NW.numel()}")
    how = embedding.model_copy(update={"learning_rate": options.lora_learning_rate})
    work = Embedding.of(Contest.open(workspace.within(LORA), how), how, found.text)
    with adapted(workspace, plan) as weights:
        scorer = Scorer.quick(workspace, workspace.subject, kept=False)  # the weights differ at every step
        work.train(Trainee(weights), prefix(workspace) + LORA, scorer)
        cell = Meeting.of(workspace, options, {LORA: work.text}).tested()[LORA]
    if weights_hash(workspace.subject.module) != before:
        raise EngineError("low-rank weights left a trace in the model", where=f"step.{workspace.step}.lora")
    return cell


@contextmanager
def adapted(workspace: Workspace, plan: Plan) -> Iterator[list[nn.Parameter]]:
    """The weights, in the model inside; they begin with no effect, the first factor random by the profile's seed."""
    from peft import LoraConfig, get_peft_model

    module: Any = workspace.subject.module
    transposed = not isinstance(module.get_submodule(plan.modules[0]), nn.Linear)
    config = LoraConfig(r=plan.rank, lora_alpha=plan.rank, target_modules=plan.modules, fan_in_fan_out=transposed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workspace.profile.seed)
        wrapped = get_peft_model(module, config)
    try:
        yield [weight for weight in module.parameters() if weight.requires_grad]
    finally:
        wrapped.unload()
        if hasattr(module, "peft_config"):
            del module.peft_config
        module.eval()


def plan_for(workspace: Workspace, soft: Soft) -> Plan:
    """About as many numbers as the soft prompt has. At rank 1 they go into as many blocks as they suffice for, evenly spread;
    where they suffice for more than all blocks, into all at a higher rank.
    """
    by_block = [block for block in readers(workspace) if block]
    if not by_block:
        raise UsageError(
            "no block begins with linear modules", where=f"step.{workspace.step}.lora", hint="lora = false"
        )
    costs = [sum(cost for _, cost in block) for block in by_block]
    wanted = soft.weight_NW.numel()
    rank = max(1, wanted // sum(costs))
    count = len(costs) if wanted >= sum(costs) else max(1, wanted * len(costs) // sum(costs))
    chosen = [by_block[int((i + 0.5) * len(costs) / count)] for i in range(count)]
    return Plan([name for block in chosen for name, _ in block], rank, rank * sum(c for b in chosen for _, c in b))


def readers(workspace: Workspace) -> Iterator[list[tuple[str, int]]]:
    """Of every block the first and the last of the linear modules that read its first input (a decoder's queries and values),
    with what rank 1 costs in each.
    """
    walk = Walk.over(workspace)
    modules = dict(workspace.subject.module.named_modules())
    for index in range(walk.blocks()):
        first = next(iter(walk.groups(index).values()), [])
        costs = {m.name.removesuffix(".weight"): sum(m.shape) for m in first}
        linear = [name for name in costs if is_linear(modules.get(name))]
        ends = dict.fromkeys([linear[0], linear[-1]]) if linear else {}
        yield [(name, costs[name]) for name in ends]


def is_linear(module: nn.Module | None) -> bool:
    """Whether low-rank weights can stand beside the module's own."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
