"""The `sensitivity` step: error curves, losses and head losses of the model as it is; artifacts/sensitivity.json."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from engine import events as ev
from engine import files
from engine.calibration import Walk
from engine.evaluation.trial import Trial
from engine.grams import Grams
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.levels import Pruner
from engine.registry import CRITERIA
from engine.sensitivity import measure
from engine.sensitivity.options import SensitivityOptions
from engine.workspace import Workspace

Losses = dict[str, float]


def run(workspace: Workspace, options: SensitivityOptions) -> dict[str, Any]:
    """Measures, tells every matrix's figures and writes them down; returns the step's summary."""
    walk = Walk.over(workspace)
    grams = Grams.of(workspace, walk)
    criterion: Criterion = CRITERIA.load(options.criterion).CRITERION
    pruner = Pruner(criterion, Settings(), criterion.scope, workspace.profile.seed)
    tell = partial(workspace.progress, "error curves", unit="blocks")
    errors = measure.error_curves(walk, grams, pruner, options.ratios, tell)
    measures_loss = options.unit != "none" or options.heads
    trial = Trial.of(workspace, options.windows) if measures_loss else None
    losses = part_losses(workspace, walk, grams, pruner, trial, options)
    heads = head_losses(workspace, walk, trial) if options.heads else {}
    layers = [
        ev.LayerSensitivity(
            step=workspace.step, layer=m.name, block=m.block, ratios=options.ratios, errors=errors[m.name],
            loss=losses.get(m.name), heads=heads.get(m.name, []), done=number + 1, total=len(walk.matrices),
        )
        for number, m in enumerate(walk.matrices)
    ]  # fmt: skip
    for layer in layers:
        workspace.emit(layer)
    write(workspace, options, layers)
    return summary(options, layers)


def part_losses(
    workspace: Workspace, walk: Walk, grams: Grams, pruner: Pruner, trial: Trial | None, options: SensitivityOptions
) -> Losses:
    """{matrix name: the loss of the matrix, or of the block it is in, at the middle ratio}."""
    if trial is None or options.unit == "none":
        return {}
    parts, tell = measure.units(walk, options.unit), partial(workspace.progress, "losses", unit=f"{options.unit}s")
    found = measure.losses(walk, grams, pruner, trial, parts, ev.middle(options.ratios), tell)
    return {m.name: loss for part, loss in zip(parts, found, strict=True) for m in part}


def head_losses(workspace: Workspace, walk: Walk, trial: Trial | None) -> dict[str, list[float]]:
    """{name of the attention's output matrix: the loss of each head group}."""
    assert trial is not None
    found, outputs, base = {}, measure.attention_outputs(walk), trial.divergence()
    for number, heads in enumerate(outputs):
        found[heads.matrix.name] = measure.head_losses(trial, heads, base)
        workspace.progress("head losses", number + 1, len(outputs), "blocks")
    return found


def write(workspace: Workspace, options: SensitivityOptions, layers: list[ev.LayerSensitivity]) -> None:
    """artifacts/sensitivity.json."""
    keys = ("layer", "block", "errors", "loss", "heads")
    content = {
        "criterion": options.criterion, "ratios": options.ratios, "stage": workspace.stage,
        "loss": {"unit": options.unit, "ratio": ev.middle(options.ratios), "windows": options.windows,
                 "what": "KL divergence from the dense model, nats a token"},
        "layers": [{key: getattr(layer, key) for key in keys} for layer in layers],
    }  # fmt: skip
    file = workspace.artifact("sensitivity").with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(file, json.dumps(content, indent=1) + "\n")
    path = file.relative_to(workspace.run.path).as_posix()
    workspace.emit(ev.ArtifactWritten(step=workspace.step, path=path, format="json", bytes=file.stat().st_size))


def summary(options: SensitivityOptions, layers: list[ev.LayerSensitivity]) -> dict[str, Any]:
    """The extremes, by loss where it was measured and else by error at the middle ratio."""
    ranked = sorted(layers, key=lambda layer: layer.rank)
    out: dict[str, Any] = {"criterion": options.criterion, "ratio": ev.middle(options.ratios),
                           "most": ranked[-1].layer, "least": ranked[0].layer}  # fmt: skip
    heads = [(loss, f"{layer.layer} group {i}") for layer in layers for i, loss in enumerate(layer.heads)]
    return out | ({"critical_head": max(heads)[1]} if heads else {})
