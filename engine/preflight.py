"""What can be known to fail is refused after loading and before the first long work: data, patterns, gates, lengths."""

from __future__ import annotations

from engine.errors import UsageError
from engine.evaluation.options import EvaluateStepOptions
from engine.matrices import Matrix
from engine.prompts.options import SelectPromptOptions
from engine.pruning import step as pruning
from engine.pruning import structured
from engine.pruning.options import PruneOptions
from engine.workspace import Workspace


def check(workspace: Workspace, matrices: list[Matrix]) -> None:
    """Raises UsageError or Unavailable for the first thing that cannot work."""
    check_measured(workspace)
    check_lengths(workspace)
    for name in tasks(workspace):
        workspace.task(name)
    steps = [step for step in workspace.profile.step if isinstance(step, PruneOptions)]
    for step in steps:
        pruning.check_options(matrices, step)
        if step.structure:
            structured.check(workspace, step)
    if steps and workspace.profile.calibration.source != "self":
        workspace.calibration_inputs()


def tasks(workspace: Workspace) -> list[str]:
    """Every task that the run will need."""
    names = list(workspace.profile.evaluate.tasks)
    for step in workspace.profile.step:
        if isinstance(step, SelectPromptOptions):
            names.append(step.task)
        elif isinstance(step, EvaluateStepOptions):
            names += step.tasks or []
    return list(dict.fromkeys(names))


def check_measured(workspace: Workspace) -> None:
    """Refuses a gate on a figure that the run will not measure."""
    gate, evaluate, text = workspace.profile.gate, workspace.profile.evaluate, workspace.subject.is_language_model
    missing = {
        "perplexity_ratio": not text or evaluate.perplexity in (None, "none"),
        "accuracy_drop": text and not evaluate.tasks,
    }
    for name, nothing in missing.items():
        if nothing and getattr(gate, name) is not None:
            raise UsageError(f"nothing is measured for the gate {name}", where=f"gate.{name}", hint="see [evaluate]")


def check_lengths(workspace: Workspace) -> None:
    """Refuses windows longer than the model has positions."""
    config = getattr(workspace.subject.module, "config", None)
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None:
        return
    profile = workspace.profile
    lengths = {"calibration.length": profile.calibration.length}
    if profile.evaluate.perplexity not in (None, "none"):
        lengths["evaluate.length"] = profile.evaluate.length
    for key, length in lengths.items():
        if length > limit:
            raise UsageError(
                f"{length} tokens, but the model has {limit} positions", where=key, hint=f"{key} = {limit}"
            )
