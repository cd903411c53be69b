"""The `quantize` step: one walk over the calibration data, codes and weights of every block kept, the assertions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from engine import events as ev
from engine import grams
from engine.calibration import Visit, Walk
from engine.checkpoints import BlockCheckpoints
from engine.errors import EngineError, UsageError
from engine.matrices import Matrix, Statistics, output_error
from engine.options import StepOptions
from engine.quantization import inputs, store, widths
from engine.quantization.folding import Maker, Probe
from engine.quantization.grid import Codes, Format
from engine.quantization.method import Method, Settings
from engine.quantization.options import QuantizeOptions
from engine.quantization.store import Quantized
from engine.registry import METHODS, STEPS
from engine.subject import Subject
from engine.workspace import Workspace


@dataclass
class Quantizing:
    """One quantize step at work: what to do, the codes of the block at work, and how many matrices are done."""

    workspace: Workspace
    method: Method
    settings: Settings
    formats: dict[str, Format]
    total: int
    makers: dict[int, Maker] = field(default_factory=dict)
    made: dict[str, Codes] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    done: int = 0

    def matrices(self, matrices: list[Matrix], statistics: Statistics) -> None:
        """Quantizes the matrices that share this input, in place."""
        scale_I = self._scaled(matrices, statistics)
        if scale_I is not None:
            statistics = statistics.scaled(1 / scale_I)
        for matrix in matrices:
            self.workspace.check_stop()
            began = time.perf_counter()
            old = matrix.weight.float()
            codes = self.method.apply(old, statistics, self.formats[matrix.name], self.settings)
            stored = codes.values().to(matrix.weight.dtype)
            check_result(matrix.name, matrix.weight, stored)
            error = output_error(old, stored.float(), statistics.rows)
            matrix.weight.copy_(stored)
            self.made[matrix.name], self.addresses[matrix.name] = codes, matrix.weight.data_ptr()
            self.done += 1
            self._tell(matrix, error, time.perf_counter() - began)

    def _scaled(self, matrices: list[Matrix], statistics: Statistics) -> torch.Tensor | None:
        """Scales the matrices' columns up and what makes their input down, where the method does that and it can be done."""
        maker = self.makers.get(matrices[0].group)
        if maker is None or self.method.scale is None or not statistics.tokens:
            return None
        weights = [matrix.weight.float() for matrix in matrices]
        scale_I = self.method.scale(weights, statistics, [self.formats[matrix.name] for matrix in matrices])
        if maker.matrix:
            scale_I = torch.exp2(scale_I.log2().round())
        maker.divide(scale_I)
        for matrix in matrices:
            matrix.weight.mul_(scale_I.to(matrix.weight.dtype))
        for parameter in maker.parameters:
            self._rows_divided(parameter.data_ptr(), scale_I)
        return scale_I

    def _rows_divided(self, address: int, scale_O: torch.Tensor) -> None:
        """The codes of a matrix whose rows were divided by powers of two: their scales are divided."""
        for name, codes in self.made.items():
            if self.addresses[name] == address:
                grid = replace(codes.grid, scale_OG=codes.grid.scale_OG / scale_O[:, None])
                self.made[name] = replace(codes, grid=grid)

    def _tell(self, matrix: Matrix, error: float | None, seconds: float) -> None:
        form = self.formats[matrix.name]
        event = ev.LayerQuantized(
            step=self.workspace.step, layer=matrix.name, block=matrix.block, shape=list(matrix.shape), bits=form.bits,
            group=form.group, error=error, seconds=round(seconds, 4), done=self.done, total=self.total,
        )  # fmt: skip
        self.workspace.emit(event)


def run(workspace: Workspace, options: QuantizeOptions) -> dict[str, Any]:
    """Quantizes the workspace's model in place; returns the step's summary."""
    method: Method = METHODS.load(options.method).METHOD
    walk = Walk.over(workspace)
    check_options(workspace.subject, walk.matrices, options)
    probe = prepared(workspace, walk) if method.scale is not None else None
    formats = widths.plan(workspace, walk, options)
    settings = Settings(options.damping, options.act_order, options.clip)
    quantizing = Quantizing(workspace, method, settings, formats, len(walk.matrices))
    kept = BlockCheckpoints(workspace)
    dense = options.statistics == "dense"
    for block in grams.passes(
        workspace,
        walk,
        lambda index: visit(quantizing, walk, index, probe),
        dense=dense,
        want_gram=method.needs == "gram",
    ):
        if quantizing.made:
            store.save(codes_file(workspace, block), quantizing.made)
            quantizing.made = {}
        kept.save(block, weights(walk, block, method))  # last: who finds it finds the codes
        workspace.progress("quantizing", block + 1, walk.blocks(), "blocks")
    finish(workspace, walk)
    return summary(workspace, walk.matrices, options, formats)


def restore(workspace: Workspace, options: QuantizeOptions) -> None:
    """Puts the weights of a finished quantize step back."""
    walk, method = Walk.over(workspace), METHODS.load(options.method).METHOD
    BlockCheckpoints(workspace).restore([weights(walk, block, method) for block in range(walk.blocks())])
    finish(workspace, walk)


def finish(workspace: Workspace, walk: Walk) -> None:
    """Gives the model its codes; where inputs are to be rounded, they are from now on: the walk has seen them as they are."""
    found = workspace.subject.quantized = quantized(workspace, walk)
    inputs.install(workspace.subject.module, [name for name, form in found.formats.items() if form.inputs])


def format_of(options: QuantizeOptions) -> Format:
    """What all matrices have in common."""
    return widths.form(options, options.bits if options.size_ratio is None else 0)


def check_options(subject: Subject, matrices: list[Matrix], options: QuantizeOptions) -> None:
    """Raises UsageError, before anything is changed, when the groups do not fit a matrix, the bytes are too few, or a
    matrix has no layer of its own whose inputs could be rounded.
    """
    for matrix in matrices:
        format_of(options).check(matrix.name, matrix.shape)
    if format_of(options).inputs:
        inputs.check(subject.module, matrices)
    if options.size_ratio is not None:
        widths.budget(subject, matrices, options)


def check_last(index: int, later: Sequence[StepOptions]) -> None:
    """Raises UsageError where one of these steps, those after step `index`, changes weights."""
    for number, options in enumerate(later, index + 1):
        if STEPS[options.use].stage:
            message = f"{options.use} changes weights of the layers whose inputs step {index + 1} rounds"
            hint = 'let quantize be the last step that changes weights, or activations = "none" there'
            raise UsageError(message, where=f"step.{number}.use", hint=hint)


def prepared(workspace: Workspace, walk: Walk) -> Probe | None:
    """For a method that scales inputs: the walk in two passes, so that a block's outputs are those after all scaling."""
    if len(walk.inputs) < 2:
        workspace.log("inputs are not scaled: that takes two calibration windows at least", "warning")
        return None
    walk.chunk = min(walk.chunk, -(-len(walk.inputs) // 2))
    return Probe.of(walk)


def visit(quantizing: Quantizing, walk: Walk, block: int, probe: Probe | None) -> Visit | None:
    """What to do in a block: quantize it, or nothing when an earlier process has."""
    if BlockCheckpoints(quantizing.workspace).load(block, weights(walk, block, quantizing.method)):
        quantizing.done += len(walk.of_block(block))
        return None
    if probe is not None:
        found = {group: probe.maker(block, matrices) for group, matrices in walk.groups(block).items()}
        quantizing.makers = {group: maker for group, maker in found.items() if maker is not None}
    return quantizing.matrices


def weights(walk: Walk, block: int, method: Method) -> dict[str, torch.Tensor]:
    """What the method may change in a block: its matrices, or where it scales inputs everything."""
    return walk.weights(block) if method.scale is None else dict(walk.block(block).named_parameters())


def quantized(workspace: Workspace, walk: Walk) -> Quantized:
    """The codes of a finished step."""
    return Quantized.of([codes_file(workspace, block) for block in range(walk.blocks()) if walk.of_block(block)])


def codes_file(workspace: Workspace, block: int) -> Path:
    return workspace.checkpoint(f"codes-{block}.safetensors")


def check_result(name: str, before_OI: torch.Tensor, after_OI: torch.Tensor) -> None:
    """Raises EngineError when a quantized matrix is not finite or has fewer zeros than it had."""
    if not torch.isfinite(after_OI).all():
        raise EngineError("quantization produced NaN or infinite weights", where=name, hint="raise the damping")
    lost = int(((before_OI == 0) & (after_OI != 0)).sum())
    if lost:
        raise EngineError(f"{lost} zeros did not stay zero", where=name)


def summary(
    workspace: Workspace, matrices: list[Matrix], options: QuantizeOptions, formats: dict[str, Format]
) -> dict[str, Any]:
    """Bits a weight with scales, over all matrices; their share of the block weights; the mean output error."""
    numel = sum(m.weight.numel() for m in matrices)
    blocks = sum(p.numel() for block in workspace.subject.blocks() for p in block.parameters())
    bits = sum(formats[m.name].bits_a_weight(m.shape[1]) * m.weight.numel() for m in matrices)
    layers = [workspace.state.layers[m.name] for m in matrices]
    errors = [layer.error for layer in layers if layer.error is not None]
    return {
        "method": options.method, "bits": format_of(options).bits or "mixed",
        "bits_a_weight": bits / numel, "matrices": len(matrices),
        "covered": numel / blocks, "mean_error": sum(errors) / len(errors) if errors else None,
    }  # fmt: skip
