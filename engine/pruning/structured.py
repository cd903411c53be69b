"""Structured pruning: parts leave the model altogether, and what remains is a smaller model that plain transformers loads.

A pattern of structures/ decides what goes and returns the smaller model's configuration and weights; this module builds the
model from them, puts it in the workspace, and keeps it for resume.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine import files, runs
from engine.errors import EngineError
from engine.model import Origin, Subject, writing
from engine.pruning.options import PruneOptions
from engine.registry import STRUCTURES
from engine.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """One structured prune step at work."""

    workspace: Workspace
    options: PruneOptions


@dataclass(frozen=True)
class Smaller:
    """A smaller model: configuration keys that change, all its weights by name (tied ones once or twice), where its
    blocks and hidden dimensions come from, and what to tell in the step's summary.
    """

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    origin: Origin
    summary: dict[str, Any] = field(default_factory=dict)


def run(workspace: Workspace, options: PruneOptions) -> dict[str, Any]:
    """Makes the workspace's model smaller; returns the step's summary."""
    shrink: Callable[[Job], Smaller] = STRUCTURES.load(options.pattern).shrink
    before = workspace.subject.parameters
    smaller = shrink(Job(workspace, options))
    keep(workspace, smaller)
    workspace.subject = built(workspace.subject, smaller)
    after = workspace.subject.parameters
    return {"pattern": options.pattern, "parameters": after, "removed": 1 - after / before, **smaller.summary}


def check(workspace: Workspace, options: PruneOptions) -> None:
    """Raises UsageError, before anything is done, when the pattern has a `check(job)` that refuses the model as it is."""
    pattern: Any = STRUCTURES.load(options.pattern)
    if hasattr(pattern, "check"):
        pattern.check(Job(workspace, options))


def restore(workspace: Workspace, options: PruneOptions) -> None:
    """Puts the smaller model of a finished step back."""
    file, about = workspace.checkpoint("smaller.safetensors"), runs.read_json(workspace.checkpoint("smaller.json"))
    if about is None or not file.is_file():
        raise EngineError("the checkpoint of the smaller model is gone", where=str(file), hint="start a new run")
    smaller = Smaller(about["config"], load_file(file), Origin(**about["origin"]))
    workspace.subject = built(workspace.subject, smaller)


def keep(workspace: Workspace, smaller: Smaller) -> None:
    """Writes the smaller model for resume."""
    file = workspace.checkpoint("smaller.safetensors")
    stored = {name: weight.detach().cpu().clone().contiguous() for name, weight in smaller.weights.items()}
    with writing(file):
        files.write_with(file, lambda part: save_file(stored, part))
    about = {"config": smaller.config, "origin": asdict(smaller.origin)}
    files.write_text(workspace.checkpoint("smaller.json"), json.dumps(about))


def built(subject: Subject, smaller: Smaller) -> Subject:
    """The smaller model made anew from its configuration, as transformers would when it loads the exported folder."""
    from transformers import AutoModelForCausalLM

    old: Any = subject.module
    config = copy.deepcopy(old.config)
    for key, value in smaller.config.items():
        setattr(config, key, value)
    module = AutoModelForCausalLM.from_config(config, dtype=subject.dtype)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name in smaller.weights:  # some stay in float32 in a model that is otherwise in half precision
            tensor.data = tensor.data.to(smaller.weights[name].dtype)
    module.load_state_dict(smaller.weights, strict=False)
    module.tie_weights()
    if hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("eager")
    module.to(subject.device).eval().requires_grad_(False)
    return replace(subject, module=module, origin=smaller.origin.after(subject.origin))
