"""Hidden dimensions of the residual stream, out of every weight that reads or writes it.

Which axes of which weights are on the stream is read off an empty model with a smaller hidden size. What the removed
dimensions told each matrix is predicted from those that stay (see refit.py), with the inputs of the model as it was; the
norms get the factor that keeps their outputs as large as they were.

Shapes: H hidden, K hidden that stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from engine import events as ev
from engine.calibration import Walk
from engine.errors import UsageError
from engine.matrices import Matrix
from engine.pruning.configs import Changes, Shapes, fitting, shapes_of, shapes_with
from engine.pruning.evidence import Evidence, best, counts
from engine.pruning.narrowing import TRIES, bias_of, others, prefixes
from engine.pruning.norms import Norm, norms_of
from engine.pruning.parts import links, small_walk
from engine.pruning.refit import Inputs, observed, refit
from engine.pruning.structured import Job, Smaller, built
from engine.subject import Origin, Subject

SCORE = "minitron"
NORM_SAMPLES = 4
LEVEL = 0.005  # a factor nearer to 1 is rounding


@dataclass(frozen=True)
class Plan:
    """How many dimensions stay, were wanted, and are there; the configuration; {weight's name: its axes on the stream}."""

    count: int
    wanted: int
    of: int
    config: Changes
    axes: dict[str, list[int]]


@dataclass
class Stream:
    """The step at work on the full-size model, whose removed dimensions are zero in every block that is done."""

    job: Job
    walk: Walk
    plan: Plan
    errors: list[float] = field(default_factory=list)

    def readers(self, block: int) -> dict[str, list[Matrix]]:
        """The block's matrices [O, H] that read the stream, those with one input together, by the first one's name."""
        groups: dict[int, list[Matrix]] = {}
        for matrix in self.walk.of_block(block):
            axes = self.plan.axes.get(matrix.name, [])
            parameter = self.walk.subject.module.get_parameter(matrix.name) if axes else None
            if parameter is not None and 1 - row_axis(matrix.weight, parameter) in axes:
                groups.setdefault(matrix.group, []).append(matrix)
        return {matrices[0].name: matrices for matrices in groups.values()}

    def scores(self) -> torch.Tensor:
        """[H], from the inputs of all matrices that read the stream: the blocks' normed activations."""
        zero = torch.zeros(self.plan.of, device=self.walk.subject.device)
        variance, magnitude, norms = zero.clone(), zero.clone(), zero.clone()
        for readers, found in self.blocks("scoring", want_gram=False):
            for name, inputs in found.items():
                columns = torch.stack([m.weight.float().square().sum(0) for m in readers[name]]).sum(0)
                variance += inputs.variance * columns
                norms += columns
                magnitude += inputs.magnitude
        weighted = (variance / norms.clamp_min(1e-30))[:, None]
        generator = self.job.generator("hidden")
        return self.job.score()(Evidence(self.weights(), generator, weighted, magnitude[:, None], norms[:, None]))

    def blocks(self, label: str, want_gram: bool) -> Iterator[tuple[dict[str, list[Matrix]], dict[str, Inputs]]]:
        """Goes through the model; yields each block's readers and their inputs when it has been computed."""
        with self.walk.context():
            hidden, calls = self.walk.enter()
            for index in range(self.walk.blocks()):
                readers = self.readers(index)
                first = {name: matrices[0].weight for name, matrices in readers.items()}
                with observed(self.walk, first, want_gram) as found:
                    hidden = self.walk.forward(index, calls[index], hidden, discard=True)
                yield readers, found
                self.job.workspace.progress(label, index + 1, self.walk.blocks(), "blocks")

    def weights(self) -> torch.Tensor:
        """The squared norm [H] of all weights on each dimension."""
        total = torch.zeros(self.plan.of, device=self.walk.subject.device)
        for name, axes in self.plan.axes.items():
            squares = self.walk.subject.module.get_parameter(name).float().square()
            total += squares.movedim(axes[0], 0).reshape(self.plan.of, -1).sum(1)
        return total

    def mask(self, stay: torch.Tensor) -> None:
        """Refits every reader from the inputs that stay, and zeroes the removed dimensions, block after block."""
        names = [f"{prefix}." for prefix in prefixes(self.walk.subject)]
        for index, (readers, found) in enumerate(self.blocks("pruning", want_gram=True)):
            for name, inputs in found.items():
                for matrix in readers[name]:
                    self.refit(matrix, inputs, stay)
            self.zero([name for name in self.plan.axes if name.startswith(names[index])], stay)
        self.zero([name for name in self.plan.axes if not name.startswith(tuple(names))], stay)

    def refit(self, matrix: Matrix, inputs: Inputs, stay: torch.Tensor) -> None:
        bias = dict(self.walk.subject.module.named_parameters()).get(bias_of(matrix.name))
        options = self.job.options
        with torch.autocast(matrix.weight.device.type, enabled=False):
            old = None if bias is None else bias.float()
            done = refit(matrix.weight.float(), old, inputs, stay, options.damping, options.compensate)
        matrix.weight.copy_(done.weight)
        if bias is not None and done.bias is not None:
            bias.copy_(done.bias)
        self.errors.append(done.error)

    def zero(self, names: list[str], stay: torch.Tensor) -> None:
        gone = torch.tensor(others(stay, self.plan.of), device=stay.device)
        for name in names:
            for axis in self.plan.axes[name]:
                self.walk.subject.module.get_parameter(name).data.index_fill_(axis, gone, 0)


def check(job: Job) -> Changes:
    """The keys that will change. Raises UsageError when the stream cannot be told from the rest, or no configuration describes
    a narrower one.
    """
    return plan(job).config


def shrink(job: Job) -> Smaller:
    workspace, began = job.workspace, time.perf_counter()
    stream = Stream(job, Walk.over(workspace), plan(job))
    if stream.plan.count != stream.plan.wanted:
        workspace.log(f"hidden size {stream.plan.count}: no model of this kind has {stream.plan.wanted}", "warning")
    stay = best(stream.scores(), stream.plan.count)
    norms = norms_of(stream.walk, stream.plan.axes, stay, NORM_SAMPLES)
    stream.mask(stay)
    weights = sliced(workspace.subject, stream.plan, stay, norms)
    for norm in norms:
        norm.mask(stay)
    level_embeddings(workspace.subject, Smaller(stream.plan.config, weights, Origin()), norms, stay)
    error = sum(stream.errors) / max(1, len(stream.errors))
    gone, of = others(stay, stream.plan.of), stream.plan.of
    workspace.emit(
        ev.PartsRemoved(step=workspace.step, part="hidden dimensions", block=None, removed=gone, of=of, error=error,
                        seconds=round(time.perf_counter() - began, 3), done=1, total=1)
    )  # fmt: skip
    summary = {"parts": "hidden dimensions", "kept": stream.plan.count, "of": of, "mean_error": error}
    return Smaller(stream.plan.config, weights, Origin(hidden=stay.tolist()), summary, masked=True)


def plan(job: Job) -> Plan:
    """The hidden size nearest to the sparsity that a configuration of this model can have."""
    subject, options = job.workspace.subject, job.options
    walk = small_walk(subject)
    with walk.context():
        of = walk.enter()[0][0].shape[-1]
    possible = counts(of, options.amount, options.multiple)
    off_stream = inner_axes(subject)
    for count in possible[:TRIES]:
        config = configuration(subject, of, count, off_stream)
        if config is not None:
            return Plan(count, possible[0], of, config, axes_on_stream(subject, config))
    message = f"no configuration of this model has a hidden size of {possible[0]} instead of {of}, all else the same"
    raise UsageError(message, where="step.pattern", hint="try another pattern: compress-tui list structures")


def inner_axes(subject: Subject) -> set[tuple[str, int]]:
    """(name, axis) of what lies inside the blocks: the parts that heads and channels are made of, never on the stream."""
    found = zip(prefixes(subject), links(subject), strict=True)
    return {(f"{prefix}.{name}", axis) for prefix, block in found for link in block for name, axis in link.axes.items()}


def configuration(subject: Subject, of: int, count: int, off_stream: set[tuple[str, int]]) -> Changes | None:
    """The keys that make the stream, and nothing else, narrower."""
    config = subject.module.config
    before = shapes_of(subject.module)
    heads = getattr(config, "num_attention_heads", None)
    size = getattr(config, "head_dim", None) or (of // heads if heads else None)

    def accept(shapes: Shapes) -> bool:
        if shapes.keys() != before.keys():
            return False
        moved = [(name, axis, old, new) for name in before
                 for axis, (old, new) in enumerate(zip(before[name], shapes[name], strict=True)) if old != new]  # fmt: skip
        touched = {name for name, *_ in moved}
        inside = [name for prefix in prefixes(subject) for name, shape in before.items()
                  if name.startswith(f"{prefix}.") and len(shape) >= 2]  # fmt: skip
        return (
            all((old, new) == (of, count) and (name, axis) not in off_stream for name, axis, old, new in moved)
            and touched.issuperset(inside)
        )  # fmt: skip

    return fitting(config, {of: count}, accept, [{"head_dim": size} if size else {}])


def axes_on_stream(subject: Subject, config: Changes) -> dict[str, list[int]]:
    """{weight's name: axes that change with the configuration}."""
    before, after = shapes_of(subject.module), shapes_with(subject.module.config, config)
    assert after is not None
    axes = {name: [i for i, (a, b) in enumerate(zip(shape, after[name], strict=True)) if a != b]
            for name, shape in before.items()}  # fmt: skip
    return {name: found for name, found in axes.items() if found}


def sliced(subject: Subject, plan_: Plan, stay: torch.Tensor, norms: list[Norm]) -> dict[str, torch.Tensor]:
    """All weights without the removed dimensions, the norms' weights for their narrower inputs."""
    weights: dict[str, Any] = dict(subject.module.state_dict())
    for norm in norms:
        weights[norm.name] = norm.narrow()
    for name, axes in plan_.axes.items():
        for axis in axes:
            weights[name] = weights[name].index_select(axis, stay)
    return weights


def level_embeddings(subject: Subject, smaller: Smaller, norms: list[Norm], stay: torch.Tensor) -> None:
    """Where a model scales its embeddings by its hidden size, makes the smaller one's weights up for it, in place.

    Embeddings that are the head's weights too are made up for in turn by the norm before the head.
    """
    wide, narrow = (small_walk(one) for one in (subject, built(subject, smaller)))
    with wide.context():
        a, b = wide.enter()[0][0][..., stay].float(), narrow.enter()[0][0].float()
    factor = float((a * b).sum() / b.square().sum().clamp_min(1e-30))
    if abs(factor - 1) < LEVEL:
        return
    model: Any = subject.module
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter is table:
            smaller.weights[name] = smaller.weights[name] * factor
    blocks = tuple(f"{prefix}." for prefix in prefixes(subject))
    for norm in norms:
        if head is table and not norm.name.startswith(blocks):
            smaller.weights[norm.name] = (norm.offset + smaller.weights[norm.name]) / factor - norm.offset


def row_axis(view: torch.Tensor, parameter: torch.Tensor) -> int:
    """The axis of a matrix's outputs in the stored parameter."""
    return 0 if view.stride() == parameter.stride() else 1
