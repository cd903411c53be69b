"""`inspect`: what a model file or folder holds, from its headers alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from engine import figures
from tui import output

if TYPE_CHECKING:
    from engine.summary import ModelSummary, Node

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder, a GGUF or safetensors file, a hub name, or demo.")
]


def show(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: the model, then its tensors.")] = False,
    whole: Annotated[bool, typer.Option("--all", help="Every block on its own, also those that are alike.")] = False,
) -> None:
    """Show a model's tensors and memory; reads headers only."""
    from engine import inspection

    summary = inspection.inspect(model)
    for line in _records(summary) if as_json else _lines(summary, whole):
        output.data(line)


def _records(summary: ModelSummary) -> list[str]:
    from engine.summary import kv_cache_per_1k, memory

    head = {
        "kind": "model", "path": str(summary.path), "format": summary.format, "architecture": summary.architecture,
        "parameters": summary.parameters, "bytes": summary.bytes, "tensors": len(summary.tensors),
        "memory": memory(summary), "kv_cache_per_1k": kv_cache_per_1k(summary),
    }  # fmt: skip
    tensors = (
        {
            "kind": "tensor",
            "name": t.name,
            "shape": list(t.shape),
            "dtype": t.dtype,
            "bytes": t.bytes,
            "file": str(t.file),
        }
        for t in summary.tensors
    )
    return [json.dumps(record, ensure_ascii=False) for record in (head, *tensors)]


def _lines(summary: ModelSummary, whole: bool) -> list[str]:
    from engine.summary import kv_cache_per_1k, memory

    sizes = ", ".join(f"{dtype} {figures.size(n)}" for dtype, n in memory(summary).items())
    cache = kv_cache_per_1k(summary)
    facts = [
        ("model", str(summary.path)),
        ("format", summary.format),
        ("architecture", summary.architecture),
        ("parameters", f"{summary.parameters:,} in {len(summary.tensors)} tensors"),
        ("size", figures.size(summary.bytes)),
        ("memory", sizes),
        ("KV cache", f"{figures.size(cache)} per 1k tokens" if cache is not None else figures.NOTHING),
    ]
    rows = [row for group in _groups(summary.tree(), whole) for row in _rows(group, 0, whole, summary.bytes)]
    headers = ["part", "shape", "dtype", "parameters", "size", "share"]
    tree = output.table(headers, rows, right=["parameters", "size", "share"])
    return [*(f"{name:<14}{output.plain(value)}" for name, value in facts), "", *tree]


def _groups(node: Node, whole: bool) -> list[list[Node]]:
    """A node's children in order; numbered neighbours of the same make (the blocks) come together unless `whole`."""
    children = list(node.children.values())
    if all(child.name.isdigit() for child in children):
        children.sort(key=lambda child: int(child.name))
    groups: list[list[Node]] = []
    for child in children:
        alike = bool(groups) and child.name.isdigit() and _make(groups[-1][-1]) == _make(child)
        if alike and not whole:
            groups[-1].append(child)
        else:
            groups.append([child])
    return groups


def _make(node: Node) -> tuple[object, ...]:
    """What makes two parts alike: the names, shapes and number formats of what is in them."""
    own = (node.tensor.shape, node.tensor.dtype) if node.tensor else ()
    return (*own, *((name, _make(child)) for name, child in node.children.items()))


def _rows(group: list[Node], level: int, whole: bool, total: int) -> list[list[str]]:
    """The line of a part, or of several that are alike, and the lines of what is in (one of) them."""
    node, rest = group[0], ""
    while len(node.children) == 1 and not node.tensor:
        (node,) = node.children.values()
        rest += f".{node.name}"
    name = group[0].name + rest
    if len(group) > 1:
        name = f"{group[0].name}-{group[-1].name}{rest} ({len(group)} alike, each)"
    tensor = node.tensor
    line = [
        "  " * level + name, "x".join(map(str, tensor.shape)) if tensor else "", tensor.dtype if tensor else "",
        f"{node.parameters:,}", figures.size(node.bytes), figures.share(node.bytes / max(1, total)),
    ]  # fmt: skip
    return [line, *(row for inner in _groups(node, whole) for row in _rows(inner, level + 1, whole, total))]
