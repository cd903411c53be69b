"""The Inspect screen: a model's tree from its headers and one matrix in detail; other parts in `totals` and its bases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.containers import Vertical
from textual.markup import escape
from textual.widget import Widget
from textual.widgets import DataTable, Static, Tree

from engine import figures
from engine.errors import EngineError
from engine.events import LayerSensitivity
from engine.state import LayerState, RunState
from tui import actions, blocks, recent
from tui.names import short
from tui.screens.picking import AskModel
from tui.screens.surveying import headers
from tui.screens.totals import TotalsScreen
from tui.threads import aside
from tui.widgets import comparison, explain, modeltext
from tui.widgets.line import Line
from tui.widgets.modeltree import ModelTree
from tui.widgets.pane import Pane
from tui.widgets.sensitivity import Sensitivity, ratios
from tui.widgets.typed import Scroll

if TYPE_CHECKING:
    from engine.summary import ModelSummary, Node, TensorInfo

NO_MODEL = (
    "No model is open.\n\n{open}  inspect the demo model\n{model}  open a folder, a .gguf or a .safetensors file, a name of "
    "the hub\n{profiles}  choose a profile, then {inspect_model} for its model"
)
ANOTHER = "{model}  open another model"


class InspectScreen(TotalsScreen):
    """Mode 1."""

    scope: ClassVar[str] = "inspect"
    BINDINGS = actions.bindings("inspect")

    def __init__(self) -> None:
        super().__init__()
        self.source = ""
        self.problem = ""
        self._read_last = ""
        self._matrix: str | None = None

    def compose_body(self) -> Iterator[Widget]:
        with Vertical(classes="column", id="left"):
            yield self.totals_pane()
        with Vertical(classes="column", id="centre"):
            yield Pane(Line(id="tree-heading"), ModelTree(widget_id="tree"), title="Model", widget_id="tree-pane")
            yield self.compare_pane()
            yield Pane(Sensitivity(self.keys), title="Sensitivity", widget_id="sensitivity-pane")
        with Vertical(classes="column", id="right"):
            yield Pane(Scroll(Static(id="matrix")), title="Detail", widget_id="matrix-pane")
            yield self.weights_pane()

    def empty_text(self) -> str | None:
        if self.summary is not None:
            return None
        if self.problem:
            return f"{self.problem}\n\n{self.keys.markup(ANOTHER)}"
        if self.source:
            return f"reading the headers of {escape(self.source)} …\n\n{self.keys.markup(ANOTHER)}"
        return self.keys.markup(NO_MODEL)

    def update_view(self) -> None:
        if self.ready and not self.source and self.tui.model_source:
            self.open_model(self.tui.model_source)
        super().update_view()

    def _update_frame(self) -> None:
        super()._update_frame()
        if self.summary is not None:
            self._show_heading()

    def open_model(self, source: str) -> None:
        """Reads the headers in a thread; the screen stays usable."""
        self.source, self.problem, self.summary = source, "", None
        self.forget_weights()
        self._read(source)

    @work(group="inspect", exclusive=True)
    async def _read(self, source: str) -> None:
        try:
            self.summary = await aside(headers, source)
        except EngineError as error:
            self.problem = escape("\n".join(error.lines()))
        else:
            self._read_last = source
            self._fill(self.summary)
            await asyncio.to_thread(recent.add, recent.MODELS, source)
        self.tui.model_source = self._read_last  # what the command line is about from now on
        self.update_view()

    @property
    def matrices(self) -> Mapping[str, LayerState]:
        """The matrices of the open run, where it is a run of this model."""
        state = self._state
        return blocks.dense_layers(state) if state else {}

    @property
    def tried(self) -> Mapping[str, LayerSensitivity]:
        """The sensitivities that the open run measured, where it is a run of this model."""
        state = self._state
        return blocks.dense_sensitivities(state) if state else {}

    @property
    def _state(self) -> RunState | None:
        follower = self.tui.follower
        return follower.state if follower and follower.concerns(self.source) else None

    def show_state(self, state: RunState) -> None:
        layers, tried = self.matrices, self.tried
        alone = {name: found.error for name, found in tried.items() if found.error is not None}
        self.query_one(ModelTree).show_layers(layers, alone)
        other = "" if self.follower and self.follower.concerns(self.source) else state.source
        self.query_one(Sensitivity).show(tried, layers, other)
        self.query_one("#sensitivity-pane", Pane).say(subtitle=ratios(tried))
        self.show_detail()

    def why_not(self, name: str) -> str | None:
        if name in ("expand", "what_if", "compare") and self.summary is None:
            return self.keys.text("no model is open: {model} opens one")
        return super().why_not(name)

    def do_open(self) -> None:
        if self.summary is None:
            self.open_model("demo")
            self.update_view()
        elif self.active.id in ("sensitivity-pane", "compare-pane"):
            self.activate(self.query_one("#matrix-pane", Pane))
        elif self.query_one(ModelTree).cursor_node:
            self.query_one(ModelTree).action_select_cursor()

    def do_model(self) -> None:
        question = "Open a model: folder, .gguf or .safetensors file, org/name of the hub, or demo"
        known = list(reversed(recent.read(recent.MODELS)))
        ask = AskModel(question, self.source or "./", known=known, check=lambda s: None if s else "a path")
        self.app.push_screen(ask, self._chosen)

    def _chosen(self, source: str | None) -> None:
        if source:
            self.open_model(source)
            self.update_view()

    def do_expand(self) -> None:
        tree = self.query_one(ModelTree)
        tree.expand_all(any(not node.is_expanded for node in tree.branches()))

    def copied(self) -> str:
        if self.active.id in ("sensitivity-pane", "compare-pane"):
            return super().copied()
        tree = self.query_one(ModelTree)
        return tree.path_of(tree.cursor_node) if tree.cursor_node else ""

    @property
    def chosen(self) -> TensorInfo | None:
        if self._matrix is not None:
            return self.by_name.get(short(self._matrix))
        node = self.query_one(ModelTree).cursor_node
        return node.data.tensor if node is not None and node.data is not None else None

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Node]) -> None:
        self._matrix = None
        self.show_detail()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.has_focus:  # not because rows arrived
            self._matrix = event.row_key.value
            if event.data_table.id == "sensitivity":
                self.query_one(Sensitivity).mark(self.tried)
            self.show_detail()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.do_open()

    def _fill(self, summary: ModelSummary) -> None:
        tree = self.query_one(ModelTree)
        tree.show_model(summary.tree())
        self.by_name = comparison.by_name(summary)
        self.show_totals("")
        self.query_one("#tree-pane", Pane).say(title=f"Model · {summary.title}")
        count = len(summary.tensors)
        self.query_one("#tree-pane", Pane).say(subtitle=f"{count} tensors · {figures.size(summary.bytes)}")
        self._seen, self._matrix = (), None
        self.call_after_refresh(self.focus_target)
        self.survey()

    def show_survey(self, whole: bool) -> None:
        super().show_survey(whole)
        self.show_totals()
        self._show_heading()

    def _show_heading(self) -> None:
        self.query_one("#tree-heading", Line).put(self.query_one(ModelTree).heading())

    def show_detail(self) -> None:
        text = self._detail()
        if text is not None:
            text.append_text(self.beside_other(self.chosen))
            text.append_text(modeltext.heat(self.matrices.values()))
            self.query_one("#matrix", Static).update(text)
        self.weigh()

    def _detail(self) -> Text | None:
        """What the headers and the open run say of what the cursor is on."""
        tree, tried, name = self.query_one(ModelTree), self.tried, self._matrix or ""
        node, layer = tree.cursor_node, tree.known.layer_of(name) if name else None
        if layer is not None:
            return Text.assemble((f"{layer.name}\n\n", "bold"), explain.matrix(layer, tried.get(layer.name)))
        if (alone := tried.get(name)) is not None:
            return Text.assemble((f"{alone.layer}\n\n", "bold"), explain.curve(alone))
        if self.summary is None:
            return None
        if name and (tensor := self.chosen):
            from engine.summary import Node

            return modeltext.detail(Node(name, tensor=tensor), tensor.name, self.summary.bytes, None, None, None)
        if node is None or node.data is None:
            return None
        path = tree.path_of(node)
        layer, sparsity = tree.known.layer_of(path), tree.known.sparsity(node.data, path)
        known = tried.get(layer.name if layer else path)
        return modeltext.detail(node.data, path, self.summary.bytes, layer, known, sparsity)
