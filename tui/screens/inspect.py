"""The Inspect screen: a model's tree from its file headers alone, its totals, and one matrix in detail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static, Tree

from engine import figures
from engine.errors import EngineError, Unavailable
from engine.state import LayerState, RunState
from tui import actions
from tui.screens.base import WorkScreen
from tui.screens.dialogs import Ask
from tui.widgets.line import Line
from tui.widgets.modeltree import ModelTree
from tui.widgets.pane import Pane
from tui.widgets.states import bar

if TYPE_CHECKING:
    from engine.inspection import ModelSummary, Node

HEAT = " ▁▂▃▄▅▆▇█"
CONFIG = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "max_position_embeddings", "num_experts", "num_local_experts",
)  # fmt: skip


class InspectScreen(WorkScreen):
    """Mode 1."""

    name_of: ClassVar[str] = "inspect"
    BINDINGS = actions.bindings("inspect")

    def __init__(self) -> None:
        super().__init__()
        self.summary: ModelSummary | None = None
        self.source = ""
        self.problem = ""

    def compose_body(self) -> Iterator[Widget]:
        with Vertical(classes="column", id="left"):
            yield Pane(VerticalScroll(Static(id="totals")), title="Totals", widget_id="totals-pane", side=True)
        with Vertical(classes="column", id="centre"):
            yield Pane(Line(id="tree-heading"), ModelTree(widget_id="tree"), title="Model", widget_id="tree-pane")
        with Vertical(classes="column", id="right"):
            yield Pane(VerticalScroll(Static(id="matrix")), title="Detail", widget_id="matrix-pane")

    def empty_text(self) -> str | None:
        if self.summary is not None:
            return None
        if self.problem:
            return f"{self.problem}\n\n[b]m[/b]  open another model"
        if self.source:
            return f"reading the headers of {self.source} …"
        return (
            "No model is open.\n\n[b]enter[/b]  inspect the demo model\n[b]m[/b]  open a folder, a .gguf or a "
            ".safetensors file\n[b]4[/b]  choose a profile, then [b]i[/b] for its model"
        )

    def update_view(self) -> None:
        if self.ready and not self.source and self.tui.model_source:
            self.open_model(self.tui.model_source)
        super().update_view()

    def _update_frame(self) -> None:
        super()._update_frame()
        if self.summary is not None:
            self.query_one("#tree-heading", Line).put(self.query_one(ModelTree).heading())

    def open_model(self, source: str) -> None:
        """Reads the headers in a thread; the screen stays usable."""
        self.source, self.problem, self.summary = source, "", None
        self.tui.model_source = source
        self._read(source)

    @work(group="inspect", exclusive=True)
    async def _read(self, source: str) -> None:
        try:
            self.summary = await asyncio.to_thread(_summary, source)
        except EngineError as error:
            self.problem = "\n".join(error.lines()).replace("[", "\\[")
        else:
            self._fill(self.summary)
        self.update_view()

    def show_state(self, state: RunState) -> None:
        tree = self.query_one(ModelTree)
        tree.show_layers(state.layers)
        self._show_detail()

    def why_not(self, name: str) -> str | None:
        if name == "expand" and self.summary is None:
            return "no model is open: m opens one"
        return super().why_not(name)

    def do_open(self) -> None:
        if self.summary is None:
            self.open_model("demo")
            self.update_view()
        elif self.query_one(ModelTree).cursor_node:
            self.query_one(ModelTree).action_select_cursor()

    def do_model(self) -> None:
        question = "Open a model: folder, .gguf or .safetensors file, or demo"
        self.app.push_screen(Ask(question, self.source or "./", check=lambda s: None if s else "a path"), self._chosen)

    def _chosen(self, source: str | None) -> None:
        if source:
            self.open_model(source)
            self.update_view()

    def do_expand(self) -> None:
        tree = self.query_one(ModelTree)
        tree.expand_all(any(not node.is_expanded for node in tree.branches()))

    def copied(self) -> str:
        tree = self.query_one(ModelTree)
        return tree.path_of(tree.cursor_node) if tree.cursor_node else ""

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Node]) -> None:
        self._show_detail()

    def _fill(self, summary: ModelSummary) -> None:
        tree = self.query_one(ModelTree)
        tree.show_model(summary.tree())
        if self.tui.follower:
            tree.show_layers(self.tui.follower.state.layers)
        self.query_one("#totals", Static).update(_totals(summary))
        name = str(summary.path).rstrip("/").rsplit("/", 1)[-1]
        self.query_one("#tree-pane", Pane).border_title = f"Model · {name}"
        count = len(summary.tensors)
        self.query_one("#tree-pane", Pane).border_subtitle = f"{count} tensors · {figures.size(summary.bytes)}"
        self.call_after_refresh(self.focus_pane)

    def _show_detail(self) -> None:
        tree = self.query_one(ModelTree)
        node = tree.cursor_node
        if node is None or node.data is None or self.summary is None:
            return
        path = tree.path_of(node)
        total = self.summary.bytes
        text = _detail(node.data, path, total, tree.layer_of(path), tree.sparsity(node.data, path))
        if tree.pruned:
            text.append_text(_heat(tree.pruned.values()))
        self.query_one("#matrix", Static).update(text)


def _summary(source: str) -> ModelSummary:
    if source.startswith(("builtin:", "python:")):
        raise Unavailable("made by code: there are no file headers to read", where=source)
    try:
        from engine import inspection
    except ImportError as error:
        raise Unavailable(f"the inspection part does not import: {error}") from error
    return inspection.inspect(source)


def _lines(pairs: list[tuple[str, str]], width: int = 12) -> Text:
    text = Text()
    for key, value in pairs:
        text.append(f"{key:<{width}}", "bright_black")
        text.append(f"{value}\n", "bold" if key in ("parameters", "on disk") else "")
    return text


def _totals(summary: ModelSummary) -> Text:
    from engine.inspection import kv_cache_per_1k, memory

    text = _lines([("model", str(summary.path).rsplit("/", 1)[-1]), ("kind", summary.architecture)])
    text.append_text(_lines([("format", summary.format), ("parameters", figures.count(summary.parameters))]))
    text.append_text(_lines([("on disk", figures.size(summary.bytes))]))
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


def _detail(node: Node, path: str, total: int, layer: LayerState | None, sparsity: float | None) -> Text:
    text = Text.assemble((f"{path}\n\n", "bold"))
    tensor = node.tensor
    if tensor is not None:
        text.append_text(_lines([("shape", "×".join(map(str, tensor.shape))), ("dtype", tensor.dtype)]))
        text.append_text(_lines([("file", tensor.file.rsplit("/", 1)[-1])]))
    else:
        text.append_text(_lines([("branches", str(len(node.children)))]))
    text.append_text(_lines([("parameters", figures.count(node.parameters)), ("bytes", figures.size(node.bytes))]))
    text.append_text(_lines([("share", figures.share(node.bytes / total if total else 0.0, 2))]))
    if sparsity is not None:
        text.append_text(_lines([("sparsity", figures.share(sparsity, 2))]))
    if layer is not None:
        text.append_text(_lines([("error", figures.number(layer.error, 5)), ("took", figures.duration(layer.seconds))]))
    return text


def _heat(layers: Any) -> Text:
    """Mean error of each block as one character, so that a bad block stands out."""
    blocks: dict[int, list[float]] = {}
    for layer in layers:
        if layer.error is not None:
            blocks.setdefault(layer.block, []).append(layer.error)
    means = {block: sum(errors) / len(errors) for block, errors in sorted(blocks.items())}
    if not means:
        return Text()
    top, worst = max(means.values()), max(means, key=lambda block: means[block])
    text = Text.assemble(("\nError by block\n", "underline"))
    for value in means.values():
        text.append(HEAT[max(1, round(8 * value / top))] if top else HEAT[1], "cyan")
    text.append(f"\nfrom block {min(means)} to {max(means)}; worst {worst}: {figures.number(top, 4)}\n")
    return text
