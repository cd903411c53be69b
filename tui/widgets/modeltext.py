"""What the Inspect screen says in words: a model's totals, one branch or matrix in detail, the errors by block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from engine import events as ev
from engine import figures, means
from engine.state import LayerState
from tui.widgets import explain
from tui.widgets.explain import lines
from tui.widgets.states import bar, height

if TYPE_CHECKING:
    from engine.summary import ModelSummary, Node

CONFIG = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "max_position_embeddings", "num_experts", "num_local_experts",
)  # fmt: skip


def totals(summary: ModelSummary, zeros: str) -> Text:
    """The figures of a whole model; `zeros` is what was read of its weights."""
    from engine.summary import kv_cache_per_1k, memory

    text = lines([("model", summary.title), ("kind", summary.architecture)])
    text.append_text(lines([("format", summary.format), ("parameters", figures.count(summary.parameters))]))
    text.append_text(lines([("on disk", figures.size(summary.bytes)), ("zeros", zeros)]))
    text.append("\nMemory of the weights\n", "underline")
    sizes = memory(summary)
    for dtype, value in sizes.items():
        text.append(f"{dtype:<9}", "bright_black")
        text.append(f"{figures.size(value):>8} ")
        text.append_text(bar(value, max(sizes.values()), 6))
        text.append("\n")
    cache = kv_cache_per_1k(summary)
    text.append("\nKV cache, 1k tokens\n", "underline")
    text.append(f"{figures.size(cache) if cache else 'not known from the headers'}\n")
    shown = [
        (key.replace("num_", "").replace("_", " "), str(summary.config[key])) for key in CONFIG if key in summary.config
    ]
    if shown:
        text.append("\nConfiguration\n", "underline")
        for key, setting in shown:
            text.append(f"{key:<20}", "bright_black")
            text.append(f"{setting:>7}\n")
    return text


def detail(
    node: Node,
    path: str,
    total: int,
    layer: LayerState | None,
    tried: ev.LayerSensitivity | None,
    sparsity: float | None,
) -> Text:
    text = Text.assemble((f"{path}\n\n", "bold"))
    tensor = node.tensor
    if tensor is not None:
        text.append_text(lines([("shape", "×".join(map(str, tensor.shape))), ("dtype", tensor.dtype)]))
        text.append_text(lines([("file", tensor.file.rsplit("/", 1)[-1])]))
    else:
        text.append_text(lines([("branches", str(len(node.children)))]))
    text.append_text(lines([("parameters", figures.count(node.parameters)), ("bytes", figures.size(node.bytes))]))
    text.append_text(lines([("share", figures.share(node.bytes / total if total else 0.0, 2))]))
    if sparsity is not None:
        text.append_text(lines([("sparsity", figures.share(sparsity, 2))]))
    if layer is not None:
        text.append_text(explain.fate(layer))
    text.append_text(explain.curve(tried))
    return text


def heat(layers: Iterable[LayerState]) -> Text:
    """Mean error of each block as one character, so that a bad block stands out."""
    by_block = means.by_block((layer.block, layer.error, 1) for layer in layers)
    if not by_block:
        return Text()
    top, worst = max(by_block.values()), max(by_block, key=by_block.__getitem__)
    text = Text.assemble(("\nError by block\n", "underline"))
    for value in by_block.values():
        text.append(height(value, top), "cyan")
    text.append(f"\nfrom block {min(by_block)} to {max(by_block)}; worst {worst}: {figures.number(top, 4)}\n")
    return text
