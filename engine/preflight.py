"""What can be known to fail is refused after loading and before the first long work: data, patterns, gates, lengths,
prompt steps, trainings, and what a model that is read block by block cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from engine import figures, foreseen
from engine.beforehand import prompt_steps, tasks, virtual_tokens
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.evaluation.options import EvaluateStepOptions
from engine.export import step as exporting
from engine.export.options import ExportOptions
from engine.foreseen import Foreseen, prunings
from engine.joint import grid
from engine.joint.options import JointOptions
from engine.matrices import Matrix
from engine.prompts import early, verbalizers
from engine.pruning import step as pruning
from engine.pruning.options import PruneOptions
from engine.quantization import step as quantization
from engine.quantization.options import QuantizeOptions
from engine.sensitivity.options import SensitivityOptions
from engine.training import early as trainings
from engine.training import room
from engine.training.options import RecoverOptions, TrainingOptions
from engine.workspace import Workspace

STREAMED = {"prune", "recover", "quantize", "evaluate", "export"}


def check(workspace: Workspace, matrices: list[Matrix]) -> None:
    """Raises UsageError or Unavailable for the first thing that cannot work."""
    if workspace.subject.stream is not None:
        check_streamed(workspace)
    check_processes(workspace)
    check_measured(workspace)
    steps = foreseen.steps(workspace, matrices)
    check_lengths(workspace, steps)
    for name in tasks(workspace.profile):
        task, tokenizer = workspace.task(name), workspace.subject.tokenizer
        for warning in verbalizers.check(task, tokenizer) if tokenizer else ():
            workspace.log(warning, "warning")
    check_trainings(steps)
    check_prompts(steps)
    check_pruning(steps)
    check_quantizing(steps)
    check_exports(steps)
    check_virtual_tokens(workspace)
    calibrated = [step for step in workspace.profile.step
                  if prunings(step) or isinstance(step, SensitivityOptions | QuantizeOptions)]  # fmt: skip
    if calibrated and workspace.profile.calibration.source != "self":
        workspace.calibration_inputs()


def check_processes(workspace: Workspace) -> None:
    """Refuses processes where they cannot train together; warns where there is nothing that they share."""
    count, kind = workspace.profile.processes, workspace.subject.device.type
    if count == 1:
        return
    if kind not in ("cpu", "cuda"):
        message = f"{count} processes train together on the CPU or on CUDA devices, not on {kind}"
        raise UsageError(message, where="processes", hint="processes = 1")
    if not any(isinstance(step, TrainingOptions) and whole(step) for step in workspace.profile.step):
        workspace.log("no step trains a whole model: one process does everything", "warning")
    elif kind == "cuda" and count > torch.cuda.device_count():
        workspace.log(f"{count} processes share {torch.cuda.device_count()} CUDA devices", "warning")


def whole(options: TrainingOptions) -> bool:
    """Whether it trains all blocks together."""
    return not isinstance(options, RecoverOptions) or options.method != "blockwise"


def check_trainings(steps: Sequence[Foreseen]) -> None:
    """Refuses trainings without data, room or a teacher; those that are done already are left alone."""
    for step in steps:
        if isinstance(step.options, TrainingOptions) and not step.finished:
            trainings.check(step.workspace, step.options, step.student)


def check_pruning(steps: Sequence[Foreseen]) -> None:
    """Refuses what the matrices cannot have and parts that the model does not have; steps after one that takes parts out meet
    another model and check for themselves.
    """
    for step in steps:
        for how in prunings(step.options):
            if step.matrices is not None:
                pruning.check_options(step.matrices, how)
                if how.structure:
                    step.changes(how)


def check_quantizing(steps: Sequence[Foreseen]) -> None:
    """Refuses groups that do not fit the matrices that a step will meet (where these are not known it checks for itself), and
    changes to weights whose layers round their inputs.
    """
    for number, step in enumerate(steps):
        if not isinstance(step.options, QuantizeOptions):
            continue
        if step.options.activations != "none":
            quantization.check_last(number, [later.options for later in steps[number + 1 :]])
        if (met := step.met) is not None:
            with met.hinting():
                quantization.check_options(met.subject, met.matrices, step.options)


def check_exports(steps: Sequence[Foreseen]) -> None:
    """Refuses formats that cannot hold the model that they are to hold."""
    for step in steps:
        if isinstance(step.options, ExportOptions):
            met = step.met
            made = None if met is None else met.subject
            with nullcontext() if met is None else met.hinting():
                exporting.check_options(step.workspace, step.workspace.step, step.options, made)


def check_virtual_tokens(workspace: Workspace) -> None:
    """Refuses formats without room for the virtual tokens that a step before may choose; warns where another export has it."""
    for warning in virtual_tokens(workspace.profile):
        workspace.log(warning, "warning")


def check_prompts(steps: Sequence[Foreseen]) -> None:
    """Refuses prompt steps that lack rows, budget or room; those that are done already are left alone."""
    for step in steps:
        if not step.finished:
            if isinstance(step.options, JointOptions):
                grid.check(step.workspace, step.options)
            for one in prompt_steps(step.options):
                early.check(step.workspace, one)


def check_streamed(workspace: Workspace) -> None:
    """Refuses what needs the whole model in memory."""
    profile = workspace.profile
    evaluate = profile.evaluate
    needs = {
        "evaluate.speed": (evaluate.speed, "speed is measured", "evaluate.speed = false"),
        "evaluate.tasks": (evaluate.tasks, "tasks are answered", "evaluate.tasks = []"),
        "calibration.source": (profile.calibration.source == "self", "text is sampled", "another text"),
    }
    for index, step in enumerate(profile.step):
        key = f"step.{index}"
        match step:
            case PruneOptions():
                needs[f"{key}.pattern"] = (step.structure, "parts are removed", '"unstructured" or N:M')
                needs[f"{key}.threshold"] = (step.threshold, "a threshold is checked", "a sparsity")
                allocated = step.allocation != "uniform"
                needs[f"{key}.allocation"] = (allocated, "sparsity is allocated", 'allocation = "uniform"')
            case RecoverOptions():
                needs[f"{key}.method"] = (whole(step), f"{step.method} trains", 'method = "blockwise"')
            case QuantizeOptions():
                needs[f"{key}.size_ratio"] = (step.size_ratio, "bits are chosen", "bits")
            case ExportOptions():
                needs[f"{key}.reference"] = (step.reference, "a reference is quantized", "reference = false")
            case EvaluateStepOptions():
                needs[f"{key}.tasks"] = (step.tasks, "tasks are answered", "leave them out")
            case _:
                other = step.use not in STREAMED
                needs[f"{key}.use"] = (other, f"{step.use} works", "leave the step out")
    for where, (wanted, what, instead) in needs.items():
        if wanted:
            message = f"{what} with the whole model in memory, and this one is read block by block"
            raise UsageError(message, where=where, hint=f'{instead}, or model.memory = "resident"')


def check_measured(workspace: Workspace) -> None:
    """Refuses a gate on a figure that the run will not measure."""
    gate, evaluate, text = workspace.profile.gate, workspace.profile.evaluate, workspace.subject.is_language_model
    missing = {
        "perplexity_ratio": not text or evaluate.perplexity in (None, "none"),
        "accuracy_drop": text and not any(counted(workspace.task(name)) for name in evaluate.tasks),
    }
    for name, nothing in missing.items():
        if nothing and getattr(gate, name) is not None:
            raise UsageError(f"nothing is measured for the gate {name}", where=f"gate.{name}", hint="see [evaluate]")


def counted(task: Task) -> bool:
    """Whether the task's rows are answered right or wrong."""
    return task.generation is None or figures.binary(task.metric)


def check_lengths(workspace: Workspace, steps: Sequence[Foreseen]) -> None:
    """Refuses windows longer than the model, or the one that takes its place, has positions."""
    profile = workspace.profile
    lengths = {"calibration.length": profile.calibration.length}
    if profile.evaluate.perplexity not in (None, "none"):
        lengths["evaluate.length"] = profile.evaluate.length
    for subject in [workspace.subject, *(step.student for step in steps)]:
        for key, length in lengths.items():
            room.check(subject, length, key)
