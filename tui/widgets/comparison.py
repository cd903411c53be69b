"""Two models matrix by matrix: which belong together, and a table of how far they are apart as far as they were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from engine import figures
from tui.names import block_of, short
from tui.widgets.columns import Column
from tui.widgets.explain import lines

if TYPE_CHECKING:
    from engine.stored.difference import Difference
    from engine.summary import ModelSummary, TensorInfo

COLUMNS = (
    Column("matrix", "matrix", keep="end", room=19),
    Column("shape", "shape", 13, numeric=True, least=72),
    Column("before", "sparse", 7, figures.share, numeric=True, least=60),
    Column("after", "other", 7, figures.share, numeric=True),
    Column("change", "change", 8, lambda change: figures.share(change, 2), numeric=True),
    Column("cosine", "cosine", 7, lambda cosine: f"{cosine:.4f}", numeric=True, least=44),
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


def rows(pairs: Pairs, known: Mapping[str, Difference]) -> dict[str, dict[str, Any]]:
    """One row a matrix of the first model; figures of those that were read."""
    return {name: _row(name, *pairs[name], known.get(pairs[name][0].name)) for name in pairs}


def _row(name: str, tensor: TensorInfo, twin: TensorInfo | None, found: Difference | None) -> dict[str, Any]:
    note = None
    if not comparable(tensor, twin):
        note = "not in the other" if twin is None else f"there {'×'.join(map(str, twin.shape))}"
    return {
        "matrix": name,
        "shape": "×".join(map(str, tensor.shape)),
        "before": found and found.zeros_before,
        "after": found and found.zeros_after,
        "change": found and found.relative,
        "cosine": found and found.cosine,
        "note": note,
    }


def told(found: Difference) -> Text:
    """One matrix's difference in words."""
    text = Text("\nBeside the other model\n", "underline")
    zeros = f"{figures.share(found.zeros_before, 2)} → {figures.share(found.zeros_after, 2)}"
    text.append_text(lines([("sparsity", zeros), ("|change|", f"{found.norm:.4g}")]))
    share = f"{figures.share(found.relative, 2)} of |matrix| {found.norm_before:.4g}"
    return text.append_text(lines([("", share), ("cosine", f"{found.cosine:.5f}")]))
