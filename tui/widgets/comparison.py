"""Two models matrix by matrix: which belong together, and how far apart they are as far as they were read; a model's zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from engine import figures, means
from tui.names import block_of, short
from tui.widgets.columns import Column
from tui.widgets.explain import lines

if TYPE_CHECKING:
    from engine.stored.difference import Difference
    from engine.summary import ModelSummary, TensorInfo

COLUMNS = (
    Column("matrix", "matrix", keep="end", room=19, sortable=False),
    Column("shape", "shape", 13, numeric=True, least=72, sortable=False),
    Column("change", "change", 8, lambda change: figures.share(change, 2), numeric=True),
    Column("cosine", "cosine", 7, lambda cosine: f"{cosine:.4f}", numeric=True, least=44),
    Column("before", "sparse", 7, figures.share, numeric=True, least=60),
    Column("after", "other", 7, figures.share, numeric=True),
    Column("note", "note", 22, optional=True, least=66, sortable=False),
)
Pairs = Mapping[str, "tuple[TensorInfo, TensorInfo | None]"]
"""a matrix of the one model beside that of the other, by the name that both have"""


def by_name(summary: ModelSummary) -> dict[str, TensorInfo]:
    """The matrices of a model block by block, by the name that every format has."""
    found = [tensor for tensor in summary.tensors if len(tensor.shape) >= 2 and tensor.parameters]
    return {short(tensor.name): tensor for tensor in sorted(found, key=_block)}


def _block(tensor: TensorInfo) -> int:
    number = block_of(tensor.name)
    return -1 if number is None else number


def paired(one: ModelSummary, other: ModelSummary) -> Pairs:
    twins = by_name(other)
    return {name: (tensor, twins.get(name)) for name, tensor in by_name(one).items()}


def comparable(tensor: TensorInfo, twin: TensorInfo | None) -> bool:
    return twin is not None and twin.shape == tensor.shape


def rows(pairs: Pairs, known: Mapping[str, Difference | str]) -> dict[str, dict[str, Any]]:
    """One row a matrix of the first model; figures of those that were read, why of those that could not be."""
    return {name: _row(name, *pairs[name], known.get(name)) for name in pairs}


def progress(pairs: Pairs, known: Mapping[str, Difference | str]) -> str:
    """How many were read, of those that can be compared (a text of `Keys`)."""
    count = sum(comparable(*pair) for pair in pairs.values())
    read = f"{count} read" if len(known) >= count else f"reading {len(known)} of {count}"
    return f"{read} · {{sort}} sorts · {{compare}} another"


def sparsity(matrices: Mapping[str, TensorInfo], known: Mapping[str, float | None], most: int) -> str:
    """The share of zeros in all matrices, once those that have values were read: at `most` so many weights of each."""
    if len(known) < len(matrices):
        return f"reading {len(known)} of {len(matrices)}"
    found = [(share, matrices[name].parameters) for name, share in known.items()]
    mean, sampled = means.weighted(found), any(tensor.parameters > most for tensor in matrices.values())
    return "no values to read" if mean is None else f"{'about ' if sampled else ''}{figures.share(mean, 2)}"


def _row(name: str, tensor: TensorInfo, twin: TensorInfo | None, said: Difference | str | None) -> dict[str, Any]:
    said = found_of(tensor, twin, said)
    found, why = (None, said) if isinstance(said, str) else (said, None)
    return {
        "matrix": name,
        "shape": "×".join(map(str, tensor.shape)),
        "before": found and found.zeros_before,
        "after": found and found.zeros_after,
        "change": found and found.relative,
        "cosine": found and found.cosine,
        "note": why,
    }


def found_of(tensor: TensorInfo, twin: TensorInfo | None, said: Difference | str | None) -> Difference | str | None:
    """What was found of two matrices, or why they cannot be compared; None where they were not read yet."""
    if comparable(tensor, twin):
        return said
    return "not in the other" if twin is None else f"there {'×'.join(map(str, twin.shape))}"


def missing(why: str) -> Text:
    """The note of a matrix, where it is explained."""
    return Text.assemble(("\nBeside the other model\n", "underline"), f"{why}\n")


def told(found: Difference) -> Text:
    """One matrix's difference in words."""
    text = Text("\nBeside the other model\n", "underline")
    zeros = f"{figures.share(found.zeros_before, 2)} → {figures.share(found.zeros_after, 2)}"
    text.append_text(lines([("sparsity", zeros), ("|change|", f"{found.norm:.4g}")]))
    share = f"{figures.share(found.relative, 2)} of |matrix| {found.norm_before:.4g}"
    return text.append_text(lines([("", share), ("cosine", f"{found.cosine:.5f}")]))
