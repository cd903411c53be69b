"""What is known of a model's branches: what a run of it did to its matrices, and what was read of their weights. No widgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from engine.state import LayerState
from tui.names import short

if TYPE_CHECKING:
    from engine.summary import Node

Leaf = tuple[float | None, int]
"""a matrix's share of zeros, None where nobody knows, and its parameters"""


class Branches:
    """Figures of a branch are made of those of its matrices, which go by the names that every format has."""

    def __init__(self) -> None:
        self.matrices: Mapping[str, LayerState] = {}
        self.pruned: Mapping[str, LayerState] = {}
        self.tried: Mapping[str, float] = {}
        self.zeros: Mapping[str, float | None] = {}
        self.has_sparsity = False
        self._shares: dict[str, float | None] = {}
        self._errors: dict[str, float | None] = {}

    def of_run(self, layers: Mapping[str, LayerState], tried: Mapping[str, float]) -> None:
        """Takes over what a run of this model knows of its matrices, and what each errs when it is pruned alone; nothing, for a
        run of another.
        """
        self.tried = {short(name): error for name, error in tried.items()}
        self.matrices = {short(name): layer for name, layer in layers.items()}
        self.pruned = {name: layer for name, layer in self.matrices.items() if layer.sparsity is not None}
        self._forget()

    def of_weights(self, zeros: Mapping[str, float | None]) -> None:
        """Takes over the shares of zeros as they were read, None where values cannot be."""
        self.zeros = dict(zeros)
        self._forget()

    def _forget(self) -> None:
        """A tree asks for every line that it draws: what is found is kept until something else is known."""
        self.has_sparsity = bool(self.pruned) or any(share is not None for share in self.zeros.values())
        self._shares, self._errors = {}, {}

    def layer_of(self, path: str) -> LayerState | None:
        return self.matrices.get(short(path))

    def sparsity(self, node: Node, path: str) -> float | None:
        """The share of zeros in a branch: in the matrices that the open run pruned, else in all of them once all are read; None
        where it is not known.
        """
        if path not in self._shares:
            self._shares[path] = _mean(self._run_leaves(node, path) if self.pruned else self._read_leaves(node, path))
        return self._shares[path]

    def sensitivity(self, node: Node, path: str) -> float | None:
        """The largest error of a branch's matrices when one is pruned alone, None where none was tried."""
        if path not in self._errors:
            found = (self.tried.get(name) for name, _ in _matrices(node, path))
            self._errors[path] = max((error for error in found if error is not None), default=None)
        return self._errors[path]

    def _run_leaves(self, node: Node, path: str) -> Iterator[Leaf]:
        for name, _ in _matrices(node, path):
            if (layer := self.pruned.get(name)) is not None:
                yield layer.sparsity, layer.parameters

    def _read_leaves(self, node: Node, path: str) -> Iterator[Leaf]:
        for name, parameters in _matrices(node, path):
            if name not in self.zeros or self.zeros[name] is not None:
                yield self.zeros.get(name), parameters


def below_path(path: str, child: Node) -> str:
    return f"{path}.{child.name}".lstrip(".")


def _matrices(node: Node, path: str) -> Iterator[tuple[str, int]]:
    """Names and parameters of what is at a path and below it."""
    if node.tensor is not None and len(node.tensor.shape) >= 2 and node.parameters:
        yield short(path), node.tensor.parameters
    for child in node.children.values():
        yield from _matrices(child, below_path(path, child))


def _mean(leaves: Iterator[Leaf]) -> float | None:
    """The mean by parameters, None where one is not known or there is none."""
    total, found = 0.0, 0
    for share, parameters in leaves:
        if share is None:
            return None
        total, found = total + share * parameters, found + parameters
    return total / found if found else None
