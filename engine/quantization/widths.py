"""Bits for every matrix under a budget of bytes: more where the loss feels rounding most.

For each matrix the divergence from the dense model is measured with that matrix alone rounded to three bits, and scaled to
other widths by its output errors tr((W - W')G(W - W')ᵀ). Experts of a block are rounded together, since they are many, and the
loss is divided among those of one kind by the same errors. Upgrades that save most a byte are then taken in turn (convex
costs, as in `sensitivity`). Rounding here is to the nearest. Before an export to compressed-tensors matrices that share an
input (q/k/v, gate/up) get one width: vLLM makes one layer of them. Elsewhere that would cost and gain nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from engine import events as ev
from engine import files, runs
from engine.calibration import Walk
from engine.errors import UsageError
from engine.evaluation.trial import Trial
from engine.grams import Grams
from engine.matrices import Matrix
from engine.pruning.allocations.sensitivity import hull
from engine.pruning.quadratic import energy
from engine.quantization import inputs
from engine.quantization.grid import Codes, Format, span
from engine.quantization.options import WIDTHS, QuantizeOptions
from engine.subject import Subject
from engine.workspace import Workspace

NUMBER = re.compile(r"\.\d+(?=\.)")
"""in names: which block, which expert"""
Costs = Mapping[str, Sequence[float]]
"""{matrix: loss at each of WIDTHS}"""


def plan(workspace: Workspace, walk: Walk, options: QuantizeOptions) -> dict[str, Format]:
    """Every matrix's format: as an earlier process planned it, or planned now and kept; told either way where they differ."""
    if options.size_ratio is None:
        return {matrix.name: form(options, options.bits) for matrix in walk.matrices}
    file = workspace.checkpoint("plan.json")
    bits = runs.read_json(file)
    if not bits:
        room = budget(workspace.subject, walk.matrices, options)
        bits = cheapest(costs(workspace, walk, options), walk.matrices, options, room, fused(workspace))
        files.write_text(file, json.dumps(bits))
    workspace.emit(ev.BitsPlanned(step=workspace.step, size_ratio=options.size_ratio, bits=bits))
    return {name: form(options, width) for name, width in bits.items()}


def costs(workspace: Workspace, walk: Walk, options: QuantizeOptions) -> dict[str, list[float]]:
    """What each matrix costs at each of WIDTHS, in nats a token."""
    grams = Grams.of(workspace, walk)
    trial = Trial.of(workspace, options.trial_windows)
    before = trial.divergence()
    found: dict[str, list[float]] = {}
    for block in range(walk.blocks()):
        errors: dict[str, list[float]] = {}
        kinds: dict[str, dict[str, torch.Tensor]] = {}
        for matrices, statistics in grams.groups(block):
            assert statistics.gram is not None
            for matrix in matrices:
                values = [nearest(matrix.weight, form(options, width)) for width in WIDTHS]
                met = statistics.tokens  # of experts each meets its own, some none
                errors[matrix.name] = [met * energy(matrix.weight - value, statistics.gram) for value in values]
                kinds.setdefault(NUMBER.sub("", matrix.name), {})[matrix.name] = values[0]
        for rounded in kinds.values():
            loss = max(0.0, alone(walk, trial, block, rounded) - before)
            whole = max(1e-30, sum(errors[name][0] for name in rounded))
            found |= {name: [loss * value / whole for value in errors[name]] for name in rounded}
        workspace.progress("widths", block + 1, walk.blocks(), "blocks")
    return found


def alone(walk: Walk, trial: Trial, block: int, rounded: Mapping[str, torch.Tensor]) -> float:
    """The divergence from the dense model with these of the block's weights; the model is as before afterwards."""
    weights = walk.weights(block)
    kept = {name: weights[name].clone() for name in rounded}
    try:
        for name, weight in rounded.items():
            weights[name].copy_(weight)
        return trial.divergence(block)
    finally:
        for name, weight in kept.items():
            weights[name].copy_(weight)


def form(options: QuantizeOptions, bits: int) -> Format:
    """What the step makes of a matrix that has so many bits."""
    rounded = inputs.BITS if options.activations == "dynamic" else 0
    return Format(bits, options.group, options.symmetric, rounded)


def nearest(weight_OI: torch.Tensor, target: Format) -> torch.Tensor:
    """The weight rounded to the nearest."""
    weight_OI = weight_OI.float()
    return Codes.nearest(weight_OI, span(weight_OI, target)).values()


def fused(workspace: Workspace) -> bool:
    """Whether the profile goes on to export a folder whose readers compute matrices that share an input as one layer."""
    later = workspace.profile.step[workspace.step + 1 :]
    return any(getattr(step, "format", None) == "compressed_tensors" for step in later)


def cheapest(
    found: Costs, matrices: Sequence[Matrix], options: QuantizeOptions, room: float, together: bool = False
) -> dict[str, int]:
    """The widths with about the least sum of costs whose matrices take at most `room` bytes; `together`: one width for
    those that share an input.
    """
    units: dict[Any, list[Matrix]] = {}
    for matrix in matrices:
        units.setdefault((matrix.block, matrix.group) if together else matrix.name, []).append(matrix)
    sizes = {unit: [sum(bytes_of(m, width, options) for m in some) for width in WIDTHS] for unit, some in units.items()}
    losses = {
        unit: [sum(of) for of in zip(*(found[m.name] for m in some), strict=True)] for unit, some in units.items()
    }
    chosen = dict.fromkeys(sizes, 0)
    left = room - sum(size[0] for size in sizes.values())
    steps = []
    for order, (unit, size) in enumerate(sizes.items()):
        corners = hull(size, losses[unit])
        for number, (a, b) in enumerate(zip(corners, corners[1:], strict=False)):
            steps.append(((losses[unit][b] - losses[unit][a]) / (size[b] - size[a]), order, number, unit, a, b))
    for _, _, _, unit, a, b in sorted(steps):
        price = sizes[unit][b] - sizes[unit][a]
        if chosen[unit] == a and price <= left:
            chosen[unit], left = b, left - price
    return {matrix.name: WIDTHS[chosen[unit]] for unit, some in units.items() for matrix in some}


def bytes_of(matrix: Matrix, width: int, options: QuantizeOptions) -> float:
    """Of a matrix's codes, scales and codes of zero."""
    return form(options, width).bits_a_weight(matrix.shape[1]) * matrix.weight.numel() / 8


def budget(subject: Subject, matrices: Sequence[Matrix], options: QuantizeOptions) -> float:
    """Bytes that the matrices may take. Raises UsageError when three bits each are too many."""
    assert options.size_ratio is not None
    number = subject.dtype.itemsize
    other = subject.bytes - number * sum(matrix.weight.numel() for matrix in matrices)
    room = options.size_ratio * subject.bytes - other
    least = sum(bytes_of(matrix, WIDTHS[0], options) for matrix in matrices)
    if room < least:
        smallest = (least + other) / subject.bytes
        message = f"size_ratio {options.size_ratio:g} cannot be reached: {WIDTHS[0]} bits everywhere are {smallest:.3f}"
        hint = f"size_ratio = {smallest + 0.001:.3f}, or a smaller model.dtype, in which the rest is stored"
        raise UsageError(message, where="step.size_ratio", hint=hint)
    return room
