"""Finds the parts of a block that can leave it: groups of a matrix's input columns, and the rows elsewhere that feed them.

A gradient tells: in a copy of the block with random weights, the derivative of some input columns with respect to every
parameter is zero wherever nothing leads from there to these columns. Channels are parts one column wide; attention heads,
those that share a key-value head together, are wider ones. Nothing is changed here.

Shapes: P parts, C columns a part, R rows a part, O out, I in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.blockcall import BlockCall
from engine.calibration import Walk
from engine.errors import UsageError
from engine.matrices import Products
from engine.subject import Subject

TOKENS = 16


@dataclass(frozen=True)
class Link:
    """P parts of a block. Part p is the columns p*C ... (p+1)*C - 1 of the matrix `consumer`, and the rows that fill them:
    `indices` is {parameter's name in the block: [P, R]}, the consumer's columns included, and `axes` the axis of each.
    """

    consumer: str
    parts: int
    width: int
    indices: dict[str, torch.Tensor]
    axes: dict[str, int]

    def columns(self, parts: torch.Tensor) -> torch.Tensor:
        """The consumer's columns of some parts, in order."""
        return self.indices[self.consumer][parts.cpu()].flatten().sort().values.to(parts.device)

    def cut(self, name: str, tensor: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """A parameter of the block with only the kept parts in it."""
        if name not in self.indices:
            return tensor
        rows = self.indices[name][kept.cpu()].flatten().sort().values
        return tensor.index_select(self.axes[name], rows.to(tensor.device))


@dataclass
class Probe:
    """A scrambled copy of a block after a forward pass that keeps its graph: `inputs` of every matrix by local name."""

    parameters: dict[str, nn.Parameter]
    axes: dict[str, int]
    inputs: dict[str, torch.Tensor]

    @classmethod
    def of(cls, walk: Walk, index: int, hidden: torch.Tensor, call: BlockCall) -> Probe:
        block = scrambled(walk.block(index))
        parameters = dict(block.named_parameters())
        inputs: dict[str, torch.Tensor] = {}
        names = {p.data_ptr(): name for name, p in parameters.items()}

        def seen(x: torch.Tensor, w: torch.Tensor) -> None:
            if w.data_ptr() in names:
                inputs.setdefault(names[w.data_ptr()], x)

        with torch.enable_grad(), Products(seen):
            call(block, hidden)
        return cls(parameters, row_axes(walk, index), inputs)

    def reached(self, consumer: str, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        """{parameter: which of its rows the consumer's input depends on in these columns}."""
        x = self.inputs[consumer][..., columns.to(self.inputs[consumer].device)]
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(x.shape, generator=generator).to(x)
        named = {name: p for name, p in self.parameters.items() if p.ndim <= 2}
        gradients = torch.autograd.grad(
            (x * direction).sum(), list(named.values()), retain_graph=True, allow_unused=True
        )
        out = {}
        for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            axis = self.axes.get(name, 0)
            out[name] = (gradient != 0).movedim(axis, 0).reshape(gradient.shape[axis], -1).any(1).cpu()
        return out


def scrambled(block: nn.Module) -> nn.Module:
    """A copy with random weights, so that no dead or zero weight hides a path."""
    made = copy.deepcopy(block)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scaled = 1 + 0.1 * noise if parameter.ndim == 1 else noise / max(parameter.shape[-2:]) ** 0.5
        parameter.data = scaled.to(parameter)
        parameter.requires_grad_(True)
    return made


def row_axes(walk: Walk, index: int) -> dict[str, int]:
    """{name in the block: axis of its outputs} of the block's plain matrices."""
    named = dict(walk.block(index).named_parameters())
    prefix = walk.prefix(index)
    axes = {}
    for matrix in walk.of_block(index):
        name = matrix.name.removeprefix(prefix).lstrip(".")
        if name in named:
            axes[name] = 0 if matrix.weight.stride() == named[name].stride() else 1
    return axes


def small_walk(subject: Subject) -> Walk:
    """A walk over a few random tokens: enough to see how a model is built."""
    model: Any = subject.module
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return Walk(subject, torch.randint(0, int(vocabulary), (2, TOKENS), generator=generator), 2, torch.float32)


def links(subject: Subject) -> list[list[Link]]:
    """The links of every block; blocks that are built alike are looked at once."""
    walk = small_walk(subject)
    with walk.context():
        hidden, calls = walk.enter()
    known: dict[object, list[Link]] = {}
    out = []
    for index in range(walk.blocks()):
        built = tuple((name, p.shape) for name, p in walk.block(index).named_parameters())
        if built not in known:
            noise = torch.randn(hidden[0].shape, generator=torch.Generator().manual_seed(2)).to(hidden[0])
            probe = Probe.of(walk, index, noise, calls[index][0])
            found = (link_of(probe, name) for name in probe.axes if name in probe.inputs)
            known[built] = [link for link in found if link]
        out.append(known[built])
    return out


def of_kind(subject: Subject, pattern: str, wide: bool) -> list[Link]:
    """One link a block, all of the same size: parts one column wide, or wider ones. Raises UsageError without them."""
    out = []
    for index, found in enumerate(links(subject)):
        fitting = [link for link in found if (link.width > 1) == wide]
        if len(fitting) != 1:
            what = "attention heads that are independent" if wide else "channels between two matrices"
            raise UsageError(
                f"pattern {pattern} needs one place a block with {what}; block {index} has {len(fitting)}",
                where="step.pattern", hint="try another pattern: compress-tui list structures",
            )  # fmt: skip
        out += fitting
    if len({(link.parts, link.width) for link in out}) > 1:
        message = f"pattern {pattern} gives all blocks one width, and this model's blocks have different ones already"
        raise UsageError(message, where="step.pattern", hint="compress-tui list structures")
    return out


def link_of(probe: Probe, consumer: str) -> Link | None:
    """The consumer's finest parts; None when its input is not made of independent parts."""
    axis = 1 - probe.axes[consumer]
    width = probe.parameters[consumer].shape[axis]
    first = probe.reached(consumer, torch.tensor([0]))
    if not any(bool(first[name].any()) and not bool(first[name].all()) for name in probe.axes if name in first):
        return None  # it reads the residual stream, where everything meets
    for parts in range(width, 1, -1):
        indices = split(probe, consumer, width, parts) if width % parts == 0 else None
        if indices:
            columns = torch.arange(width).reshape(parts, -1)
            axes = {name: probe.axes.get(name, 0) for name in indices}
            return Link(consumer, parts, width // parts, {**indices, consumer: columns}, {**axes, consumer: axis})
    return None


def split(probe: Probe, consumer: str, width: int, parts: int) -> dict[str, torch.Tensor] | None:
    """The rows [P, R] of every parameter that is used by one part each; None when some row serves several parts."""
    columns = torch.arange(width).reshape(parts, -1)
    possible: dict[str, list[torch.Tensor]] = {}
    for part in sorted({0, 1, parts // 2, parts - 1}):
        for name, rows in probe.reached(consumer, columns[part]).items():
            if bool(rows.all()) or not bool(rows.any()):
                continue  # used by all parts, or by none
            known = possible[name] if name in possible else list(layouts(len(rows), width, parts))
            possible[name] = [layout for layout in known if holds(layout, part, rows)]
            if not possible[name]:
                return None
    indices = {name: found[0] for name, found in possible.items()}
    return indices if any(name in probe.axes for name in indices) else None


def holds(layout_PR: torch.Tensor, part: int, reached: torch.Tensor) -> bool:
    """Whether exactly the layout's rows were reached from a part."""
    expected = torch.zeros_like(reached)
    expected[layout_PR[part]] = True
    return torch.equal(expected, reached)


def layouts(rows: int, width: int, parts: int) -> Iterator[torch.Tensor]:
    """Ways in which rows may belong to parts [P, R]: part after part, or so in each of two or three stacked matrices."""
    rest = (rows - width) // 2
    for segments in ([rows], [rows // 2] * 2, [rows // 3] * 3, [width, rest, rest]):
        if sum(segments) == rows and all(size > 0 and size % parts == 0 for size in segments):
            starts = [sum(segments[:i]) for i in range(len(segments))]
            pieces = [
                start + torch.arange(size).reshape(parts, -1) for start, size in zip(starts, segments, strict=True)
            ]
            yield torch.cat(pieces, 1)
