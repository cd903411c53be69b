"""The tree of a model: blocks and matrices with shape, dtype, bytes, share of the total, and sparsity after a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from engine import figures
from engine.state import LayerState
from tui.names import short
from tui.widgets.states import elide

if TYPE_CHECKING:
    from engine.summary import Node

ORDERS = ("file", "bytes", "sparsity", "sensitivity")
# label, width, smallest width of the tree that shows it
COLUMNS = (
    ("shape", 13, 60),
    ("dtype", 8, 76),
    ("bytes", 9, 0),
    ("share", 7, 44),
    ("sparse", 7, 36),
    ("sens", 8, 52),
)
SORTED = {"bytes": "bytes", "sparsity": "sparse", "sensitivity": "sens"}
"""order -> the column that it sorts by"""


class ModelTree(Tree["Node"]):
    """Branches are filled when they are first opened."""

    show_root = False
    guide_depth = 2
    auto_expand = True
    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "

    def __init__(self, *, widget_id: str) -> None:
        super().__init__("", id=widget_id)
        self.model: Node | None = None
        self.order = ORDERS[0]
        self.filter_text = ""
        self.matrices: Mapping[str, LayerState] = {}
        self.pruned: Mapping[str, LayerState] = {}
        self.tried: Mapping[str, float] = {}
        self._paths: dict[int, str] = {}

    def show_model(self, model: Node) -> None:
        """Shows another model."""
        self.model = model
        self.rebuild()

    def show_layers(self, layers: Mapping[str, LayerState], tried: Mapping[str, float]) -> None:
        """Takes over what a run of this model knows of its matrices, and what each errs when it is pruned alone; nothing, for a
        run of another.
        """
        self.tried = {short(name): error for name, error in tried.items()}
        self.matrices = {short(name): layer for name, layer in layers.items()}
        self.pruned = {name: layer for name, layer in self.matrices.items() if layer.sparsity is not None}
        self._invalidate()
        self.refresh()

    def filter_by(self, text: str) -> None:
        self.filter_text = text
        self.rebuild()

    def sort_next(self) -> str:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.rebuild()
        return f"{self.order} order" if self.order == "file" else f"{self.order}, largest first"

    def rebuild(self) -> None:
        self.clear()
        self._paths = {}
        if self.model is not None:
            self._fill(self.root, self.model, "")
            self.cursor_line = 0

    def branches(self) -> list[TreeNode[Node]]:
        """All nodes below the root that can be opened and are known so far."""
        waiting, found = list(self.root.children), []
        while waiting:
            node = waiting.pop()
            if node.allow_expand:
                found.append(node)
                waiting += node.children
        return found

    def expand_all(self, expand: bool) -> None:
        """Opens every branch, or closes all but the first level."""
        waiting = list(self.root.children)
        while waiting:
            node = waiting.pop()
            if node.allow_expand and expand:
                self.fill(node)
                node.expand()
            elif node.allow_expand and node.parent is not self.root:
                node.collapse()
            waiting += node.children

    def path_of(self, node: TreeNode[Node]) -> str:
        return self._paths.get(node.id, "")

    def sparsity(self, node: Node, path: str) -> float | None:
        """The share of zeros in the pruned matrices of a branch, None where nothing was pruned."""
        if not self.pruned:
            return None
        found = [(layer, tensor) for tensor, layer in self._pruned(node, path)]
        total = sum(layer.parameters for layer, _ in found)
        return sum(layer.parameters * (layer.sparsity or 0.0) for layer, _ in found) / total if total else None

    def sensitivity(self, node: Node, path: str) -> float | None:
        """The largest error of a branch's matrices when one is pruned alone, None where none was tried."""
        if node.tensor is not None:
            return self.tried.get(short(path))
        below = (self.sensitivity(child, _below(path, child)) for child in node.children.values())
        return max((error for error in below if error is not None), default=None)

    def layer_of(self, path: str) -> LayerState | None:
        return self.matrices.get(short(path))

    def heading(self) -> Text:
        """The line above the tree that names its columns."""
        columns, room = self._columns()
        sorted_by = SORTED.get(self.order)
        text = Text(" name".ljust(room), style="bold", no_wrap=True)
        for label, width in columns:
            shown = f"{label}▼" if label == sorted_by else label
            text.append(" " * (width - len(shown)))
            text.append(shown, "underline" if label == sorted_by else "")
        return text

    def render_label(self, node: TreeNode[Node], base_style: Style, style: Style) -> Text:
        if node.data is None:
            return Text("")
        columns, room = self._columns()
        depth = -1
        above = node.parent
        while above is not None:
            depth, above = depth + 1, above.parent
        icon = (self.ICON_NODE_EXPANDED if node.is_expanded else self.ICON_NODE) if node.allow_expand else "  "
        name = elide(icon + str(node.label), room - self.guide_depth * depth, "start")
        text = Text(name.ljust(room - self.guide_depth * depth), style=base_style + style, no_wrap=True)
        values = self._values(node.data, self._paths.get(node.id, ""))
        for label, width in columns:
            text.append(values[label].rjust(width), style)
        return text

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Node]) -> None:
        self.fill(event.node)

    def fill(self, node: TreeNode[Node]) -> None:
        """Adds a branch's children, once."""
        if node.data is not None and not node.children:
            self._fill(node, node.data, self._paths[node.id])

    def _columns(self) -> tuple[list[tuple[str, int]], int]:
        width = self.scrollable_content_region.width or self.size.width
        columns = [(label, room) for label, room, least in COLUMNS if width >= least]
        columns = [column for column in columns if column[0] != "sparse" or self.pruned]
        columns = [column for column in columns if column[0] != "sens" or self.tried]
        return columns, max(10, width - sum(room for _, room in columns) - 1)

    def _values(self, node: Node, path: str) -> dict[str, str]:
        tensor, total = node.tensor, self.model.bytes if self.model else 0
        sparsity, error = self.sparsity(node, path), self.sensitivity(node, path)
        return {
            "sens": "" if error is None else figures.number(error, 4),
            "shape": "×".join(map(str, tensor.shape)) if tensor else "",
            "dtype": tensor.dtype if tensor else "",
            "bytes": figures.size(node.bytes),
            "share": figures.share(node.bytes / total if total else 0.0),
            "sparse": "" if sparsity is None else figures.share(sparsity),
        }

    def _fill(self, parent: TreeNode[Node], node: Node, path: str) -> None:
        for child in self._ordered(node, path):
            child_path = f"{path}.{child.name}" if path else child.name
            if not self._matches(child, child_path):
                continue
            while len(child.children) == 1:  # a module with its weight alone is one line
                child = next(iter(child.children.values()))
                child_path = f"{child_path}.{child.name}"
            added = parent.add(child_path.removeprefix(f"{path}."), data=child, allow_expand=bool(child.children))
            self._paths[added.id] = child_path
            if child.children and (self.filter_text or len(node.children) < 8 and child_path.count(".") < 2):
                self._fill(added, child, child_path)
                added.expand()

    def _ordered(self, node: Node, path: str) -> list[Node]:
        children = list(node.children.values())
        if self.order == "bytes":
            return sorted(children, key=lambda child: -child.bytes)
        if self.order in ("sparsity", "sensitivity"):
            value = self.sparsity if self.order == "sparsity" else self.sensitivity
            return sorted(children, key=lambda child: -(value(child, _below(path, child)) or 0.0))
        if all(child.name.isdigit() for child in children):
            return sorted(children, key=lambda child: int(child.name))
        return children

    def _matches(self, node: Node, path: str) -> bool:
        words = self.filter_text.lower().split()
        if all(word in path.lower() for word in words):
            return True
        return any(self._matches(child, f"{path}.{child.name}") for child in node.children.values())

    def _pruned(self, node: Node, path: str) -> list[tuple[str, LayerState]]:
        if node.tensor is not None:
            layer = self.pruned.get(short(path))
            return [(path, layer)] if layer else []
        return [p for child in node.children.values() for p in self._pruned(child, _below(path, child))]


def _below(path: str, child: Node) -> str:
    return f"{path}.{child.name}".lstrip(".")
