"""Structured pruning: parts leave the model altogether, and what remains is a smaller model that plain transformers loads.

A pattern of structures/ decides what goes and returns the smaller model's configuration and weights; this module builds the
model from them, puts it in the workspace, and keeps it for resume.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine import files, runs
from engine.errors import EngineError, UsageError
from engine.model import watchable
from engine.pruning.configs import Changes, changed, shapes_of
from engine.pruning.criterion import generator
from engine.pruning.evidence import Score, missing
from engine.pruning.options import PruneOptions
from engine.pruning.parts import small_walk
from engine.registry import SCORES, STRUCTURES
from engine.subject import Origin, Subject
from engine.weights import writing
from engine.workspace import Workspace

TOLERANCE = {torch.float32: 0.01}
COARSE_TOLERANCE = 0.04


@dataclass(frozen=True)
class Job:
    """One structured prune step at work."""

    workspace: Workspace
    options: PruneOptions

    def score(self) -> Score:
        """The score of parts that the options name, or the pattern's own. Raises UsageError when it does not suit."""
        name = self.options.score
        if name == "auto":
            name = STRUCTURES.load(self.options.pattern).SCORE
        module = SCORES.load(name)
        if self.options.pattern not in module.PATTERNS:
            raise missing(self.options.pattern, name)
        found: Score = module.score
        return found

    def generator(self, name: str) -> torch.Generator:
        """Random numbers that depend on the seed and the name alone."""
        return generator(self.workspace.profile.seed, name)


@dataclass(frozen=True)
class Smaller:
    """A smaller model: configuration keys that change, all its weights by name (tied ones once or twice), where its
    blocks and hidden dimensions come from, and what to tell in the step's summary.

    `masked`: the workspace's model was left computing the same as this one, its removed parts at zero; that is checked.
    """

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    origin: Origin
    summary: dict[str, Any] = field(default_factory=dict)
    masked: bool = False


def run(workspace: Workspace, options: PruneOptions) -> dict[str, Any]:
    """Makes the workspace's model smaller; returns the step's summary."""
    shrink: Callable[[Job], Smaller] = STRUCTURES.load(options.pattern).shrink
    old = workspace.subject
    before, blocks = old.parameters, block_parameters(old)
    smaller = shrink(Job(workspace, options))
    made = built(old, smaller)
    if smaller.masked:
        check_same(old, made, options.pattern)
    keep(workspace, smaller)
    workspace.subject = made
    for file in workspace.run.checkpoints.glob(workspace.checkpoint("block-*").name):
        file.unlink()
    return {
        "pattern": options.pattern, "parameters": made.parameters, "removed": 1 - made.parameters / before,
        "removed_of_blocks": 1 - block_parameters(made) / blocks, **smaller.summary,
    }  # fmt: skip


def block_parameters(subject: Subject) -> int:
    """Number of parameters in all blocks."""
    return sum(p.numel() for block in subject.blocks() for p in block.parameters())


def check(workspace: Workspace, options: PruneOptions) -> Changes:
    """The configuration's keys that the step will change. Raises UsageError, before any work, when this model cannot have the
    structured pattern.
    """
    if not workspace.subject.is_language_model:
        raise UsageError(f"pattern {options.pattern} needs a language model", where="step.pattern")
    pattern, job = STRUCTURES.load(options.pattern), Job(workspace, options)
    if hasattr(pattern, "SCORE"):
        job.score()
    changes: Changes = pattern.check(job)
    return changes


def check_same(old: Subject, new: Subject, pattern: str) -> None:
    """Raises UsageError when the smaller model does not compute what the old one does without the removed parts."""
    inputs = small_walk(old).inputs
    with torch.no_grad():
        a, b = (subject.module(input_ids=inputs, use_cache=False).logits.float() for subject in (old, new))
    difference = float((a - b).norm() / a.norm().clamp_min(1e-30))
    if not difference <= TOLERANCE.get(new.dtype, COARSE_TOLERANCE):
        message = (
            f"pattern {pattern}: made smaller, this architecture computes something else (off by {difference:.2g})"
        )
        raise UsageError(message, where="step.pattern", hint="try another pattern: compress-tui list structures")


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
    with torch.random.fork_rng(devices=[]):
        module = AutoModelForCausalLM.from_config(changed(old.config, smaller.config), dtype=subject.dtype)
    wrong = [name for name, shape in shapes_of(module).items()
             if name in smaller.weights and smaller.weights[name].shape != shape]  # fmt: skip
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name in smaller.weights:  # some stay in float32 in a model that is otherwise in half precision
            tensor.data = tensor.data.to(smaller.weights[name].dtype)
    lost = set(module.load_state_dict(smaller.weights, strict=False).missing_keys) if not wrong else set(wrong)
    module.tie_weights()
    if lost - set(getattr(module, "all_tied_weights_keys", None) or ()):
        message = f"the smaller model has no place or no values for {sorted(lost)[0]}"
        raise UsageError(message, where="step.pattern", hint="try another pattern: compress-tui list structures")
    watchable(module)
    module.generation_config = old.generation_config
    module.to(subject.device).eval().requires_grad_(False)
    return replace(subject, module=module, origin=smaller.origin.after(subject.origin))
