"""The tree of a model: blocks and matrices with shape, dtype, bytes, share of the total, sparsity and sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from engine import figures
from engine.state import LayerState
from tui.branches import Branches, below_path
from tui.widgets.scrolling import Scrolled
from tui.widgets.states import elide

if TYPE_CHECKING:
    from engine.summary import Node

ORDERS = ("file", "bytes", "sparsity", "sensitivity")
UNKNOWN = {
    "sparsity": "no sparsity is known yet: weights are being read, or have no values that can be",
    "sensitivity": "no open run of this model has measured any: a sensitivity step does",
}
"""order -> why nothing is sorted by it"""
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


class ModelTree(Tree["Node"], Scrolled, inherit_bindings=False):
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
        self.descending = True
        self.known = Branches()
        self._paths: dict[int, str] = {}

    def show_model(self, model: Node) -> None:
        """Shows another model, of which nothing is known yet."""
        self.model, self.known = model, Branches()
        self.rebuild()

    def show_layers(self, layers: Mapping[str, LayerState], tried: Mapping[str, float]) -> None:
        """Takes over what a run tells (see `Branches.of_run`)."""
        self.known.of_run(layers, tried)
        self._invalidate()
        self.refresh()

    def show_zeros(self, zeros: Mapping[str, float | None], whole: bool) -> None:
        """Takes over the shares of zeros that were read; after the `whole` model a tree sorted by them is sorted anew."""
        self.known.of_weights(zeros)
        if whole and self.order == "sparsity":
            self._sort_anew()
        self._invalidate()
        self.refresh()

    def filter_by(self, text: str) -> None:
        self.filter_text = text
        self.rebuild()

    def sort_next(self) -> str:
        self.order, self.descending = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)], True
        self.rebuild()
        if self.order in UNKNOWN and (why := self.fixed()):
            return f"{self.order}: {why}"
        return self._sorted()

    def sort_other_way(self) -> str:
        self.descending = not self.descending
        self.rebuild()
        return self._sorted()

    def fixed(self) -> str | None:
        """Why the order has no other way (a text of `Keys`), None where it has."""
        if self.order == "file":
            return "the tree is as the file has it: {sort} sorts it"
        known = {"bytes": True, "sparsity": self.known.has_sparsity, "sensitivity": bool(self.known.tried)}
        return None if known[self.order] else UNKNOWN[self.order]

    def _sorted(self) -> str:
        if self.order == "file":
            return "the file's order"
        return f"{self.order}, {'largest' if self.descending else 'smallest'} first"

    def _sort_anew(self) -> None:
        """Puts the branches in order; what is open stays open, and the cursor on its branch."""
        opened = {self.path_of(node) for node in self.branches() if node.is_expanded}
        at = self.path_of(self.cursor_node) if self.cursor_node else ""
        self.rebuild()
        waiting = list(self.root.children)
        while waiting:
            node = waiting.pop()
            if self.path_of(node) in opened:
                self.fill(node)
                node.expand()
            if self.path_of(node) == at:
                self.call_after_refresh(self.move_cursor, node)
            waiting += node.children

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

    def heading(self) -> Text:
        """The line above the tree that names its columns."""
        columns, room = self._columns()
        sorted_by = SORTED.get(self.order)
        text = Text(" name".ljust(room), style="bold", no_wrap=True)
        for label, width in columns:
            shown = f"{label}{'▼' if self.descending else '▲'}" if label == sorted_by else label
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
        columns = [column for column in columns if column[0] != "sparse" or self.known.has_sparsity]
        columns = [column for column in columns if column[0] != "sens" or self.known.tried]
        return columns, max(10, width - sum(room for _, room in columns) - 1)

    def _values(self, node: Node, path: str) -> dict[str, str]:
        tensor, total = node.tensor, self.model.bytes if self.model else 0
        sparsity, error = self.known.sparsity(node, path), self.known.sensitivity(node, path)
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
            return sorted(children, key=lambda child: child.bytes, reverse=self.descending)
        if self.order in ("sparsity", "sensitivity"):
            value = self.known.sparsity if self.order == "sparsity" else self.known.sensitivity
            sizes = {child.name: value(child, below_path(path, child)) for child in children}
            there = [child for child in children if sizes[child.name] is not None]
            there.sort(key=lambda child: sizes[child.name] or 0.0, reverse=self.descending)
            return there + [child for child in children if sizes[child.name] is None]
        if all(child.name.isdigit() for child in children):
            return sorted(children, key=lambda child: int(child.name))
        return children

    def _matches(self, node: Node, path: str) -> bool:
        words = self.filter_text.lower().split()
        if all(word in path.lower() for word in words):
            return True
        return any(self._matches(child, f"{path}.{child.name}") for child in node.children.values())
