"""Reloads what was exported and holds it against the model in memory: figures come from the file, never from memory."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from engine import memory
from engine.errors import EngineError
from engine.evaluation.logits import window_logits
from engine.evaluation.measure import Measurement
from engine.export import measured, questions
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.export.runtime.process import missing
from engine.outcome import EXPORTED
from engine.subject import Subject
from engine.workspace import Workspace

HALF = 20
"""so many times the divergence of float32 is rounding where the model in memory computes in half precision"""


def verify(
    workspace: Workspace, form: ExportFormat, folder: Path, options: ExportOptions, dtype: str
) -> dict[str, Any]:
    """Measures the artifact as a stage of its own. Raises EngineError when it differs from the model in memory."""
    stage = exported_stage(workspace, options)
    out: dict[str, Any] = {}
    own = form.read is None or (workspace.subject.is_language_model and workspace.profile.evaluate.speed)
    if form.read is not None:
        again = reloaded(workspace, form, folder, dtype)
        found = compared(workspace.subject, again)
        if found.other_zeros < found.zeros and form.zeros:
            raise EngineError(f"{found.zeros - found.other_zeros} zeros were lost in the file", where=str(folder))
        out["identical"] = found.identical
        Measurement(workspace, again, workspace.profile.evaluate.model_copy(update={"speed": False}), stage).all()
        out |= faithful(workspace, again, found.identical, stage)
        questions.ask(workspace, again, options, form, stage)
        del again
        memory.give_back(workspace.subject.device)  # to the process that measures the file
    hint = missing(form.runtime)
    if own and hint:
        workspace.log("the file's speed is not measured: its runtime is not here", "warning", hint)
    elif own:
        out |= measured.measure(workspace, form, folder, options, dtype, stage)
    tolerance = options.tolerance or form.tolerance
    out |= compare(workspace, stage, tolerance or math.inf, folder)
    check_divergence(out.get("divergence"), form, workspace.subject.dtype, folder)
    return out


def faithful(workspace: Workspace, again: Subject, identical: bool, stage: str) -> dict[str, float]:
    """How far the answers of a model that was read back are from those in memory; identical weights are not asked."""
    windows = measured.windows(workspace)
    if not windows:
        return {}
    window = windows[0][: measured.KEPT]
    if identical:
        return measured.tell_fidelity(workspace, stage, 0.0, 1.0, len(window))
    theirs_TV = next(window_logits(again, [window.to(again.device)], workspace.spill())).float().cpu()
    return measured.fidelity(workspace, stage, window, theirs_TV)


def exported_stage(workspace: Workspace, options: ExportOptions) -> str:
    """ "exported", and where the profile has several exports with the format, from its second one on with their number."""
    steps = workspace.profile.step
    if sum(step.use == "export" for step in steps) == 1:
        return EXPORTED
    number = sum(getattr(step, "format", None) == options.format for step in steps[: workspace.step]) + 1
    return f"{EXPORTED} {options.format}" + (f"-{number}" if number > 1 else "")


def reloaded(workspace: Workspace, form: ExportFormat, folder: Path, dtype: str) -> Subject:
    """The model of an exported folder; other modules get the file's weights put into a copy."""
    subject = workspace.subject
    if subject.is_language_model:
        assert form.read is not None
        return form.read(workspace.profile.model.model_copy(update={"dtype": dtype}), folder)
    from safetensors.torch import load_file

    module = deepcopy(subject.module)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    return Subject(module, str(folder), subject.fingerprint, features=subject.features)


def compare(workspace: Workspace, stage: str, tolerance: float, folder: Path) -> dict[str, Any]:
    """Perplexity (or accuracy) of the file against that in memory, within the tolerance."""
    metrics = workspace.state.metrics
    out: dict[str, Any] = {}
    for name in ("perplexity", "accuracy:features"):
        memory, file = metrics.get(workspace.stage, {}).get(name), metrics[stage].get(name)
        if memory is None or file is None:
            continue
        known = math.isfinite(memory.value)
        change = abs(file.value - memory.value) / (memory.value or 1.0) if known else 0.0
        out[f"{name}_change"] = change
        if change > tolerance or (known and not math.isfinite(file.value)):
            message = f"{name} is {file.value:.4g} after reload and was {memory.value:.4g} in memory"
            raise EngineError(message, where=str(folder), hint="the export does not hold the model; try another dtype")
    return out


def check_divergence(found: float | None, form: ExportFormat, dtype: torch.dtype, folder: Path) -> None:
    """Raises EngineError where the file's answers are not those of the model in memory, which computes in this dtype, however
    near the perplexities are.
    """
    if found is None or form.divergence is None:
        return
    most = form.divergence * (1 if dtype == torch.float32 else HALF)
    if not found <= most:
        message = (
            f"the file's answers are {found:.2g} nats a token from those in memory, and at most {most:.2g} are rounding"
        )
        hint = 'the export does not hold the model; format = "safetensors"'
        raise EngineError(message, where=str(folder), hint=hint)


@dataclass(frozen=True)
class Comparison:
    """Zeros in two models' tensors, and whether all of these are equal bit for bit."""

    zeros: int
    other_zeros: int
    identical: bool


def compared(one: Subject, other: Subject) -> Comparison:
    """One reading of both models."""
    zeros, other_zeros, identical = 0, 0, True
    for mine, theirs in zip_longest(one.tensors(), other.tensors()):  # None, where one model has more
        zeros += count_zeros(mine)
        other_zeros += count_zeros(theirs)
        identical = identical and bool(mine and theirs and mine[0] == theirs[0] and torch.equal(mine[1], theirs[1]))
    return Comparison(zeros, other_zeros, identical)


def count_zeros(named: tuple[str, torch.Tensor] | None) -> int:
    return 0 if named is None else int((named[1] == 0).sum())
