"""`inspect`: what a model file or folder holds, from its headers alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from engine import figures
from tui import output

if TYPE_CHECKING:
    from engine.inspection import ModelSummary, Node

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a GGUF or safetensors file, or demo.")]


def show(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: the model, then its tensors.")] = False,
    depth: Annotated[int, typer.Option(min=1, help="Levels of the tree to print.")] = 3,
) -> None:
    """Show a model's tensors and memory; reads headers only."""
    from engine import inspection

    summary = inspection.inspect(model)
    for line in _records(summary) if as_json else _lines(summary, depth):
        output.data(line)


def _records(summary: ModelSummary) -> list[str]:
    from engine import inspection

    head = {
        "kind": "model", "path": str(summary.path), "format": summary.format, "architecture": summary.architecture,
        "parameters": summary.parameters, "bytes": summary.bytes, "tensors": len(summary.tensors),
        "memory": inspection.memory(summary), "kv_cache_per_1k": inspection.kv_cache_per_1k(summary),
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


def _lines(summary: ModelSummary, depth: int) -> list[str]:
    from engine import inspection

    memory = ", ".join(f"{dtype} {figures.size(n)}" for dtype, n in inspection.memory(summary).items())
    cache = inspection.kv_cache_per_1k(summary)
    facts = [
        ("model", str(summary.path)),
        ("format", summary.format),
        ("architecture", summary.architecture),
        ("parameters", f"{summary.parameters:,} in {len(summary.tensors)} tensors"),
        ("size", figures.size(summary.bytes)),
        ("memory", memory),
        ("KV cache", f"{figures.size(cache)} per 1k tokens" if cache is not None else figures.NOTHING),
    ]
    rows = [row for child in summary.tree().children for row in _rows(child, 0, depth, summary.bytes)]
    headers = ["part", "shape", "dtype", "parameters", "size", "share"]
    tree = output.table(headers, rows, right=["parameters", "size", "share"])
    return [*(f"{name:<14}{output.plain(value)}" for name, value in facts), "", *tree]


def _rows(node: Node, level: int, depth: int, total: int) -> list[list[str]]:
    """The node's line and its children's, down to `depth` levels."""
    tensor = node.tensor
    shape = "x".join(map(str, tensor.shape)) if tensor else ""
    line = [
        "  " * level + node.name, shape, tensor.dtype if tensor else "",
        f"{node.parameters:,}", figures.size(node.bytes), figures.share(node.bytes / max(1, total)),
    ]  # fmt: skip
    below = node.children if level + 1 < depth else []
    return [line, *(row for child in below for row in _rows(child, level + 1, depth, total))]
