"""The Blocks pane of a run: a strip with one bar a block, and a table of what was done to each."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from engine import figures
from engine.state import RunState
from tui.blocks import Block, blocks, members, newest, removed, whole_model
from tui.widgets.columns import Column
from tui.widgets.line import Line
from tui.widgets.strip import Bar, Strip
from tui.widgets.table import LiveTable


def _error(value: float) -> str:
    return figures.number(value, 4)


COLUMNS = (
    Column("block", "block", 5, numeric=True),
    Column("planned", "plan", 6, figures.share, numeric=True, optional=True, least=34),
    Column("sparsity", "sparse", 6, figures.share, numeric=True, optional=True),
    Column("sensitivity", "sens", 7, _error, numeric=True, optional=True, least=48),
    Column("error", "error", 7, _error, numeric=True, optional=True, least=40),
    Column("before", "before", 7, _error, numeric=True, optional=True),
    Column("after", "after", 7, _error, numeric=True, optional=True),
    Column("seconds", "sec", 6, lambda seconds: figures.number(seconds, 2), numeric=True, optional=True, least=46),
    Column("what", "what", room=10),
)


class BlockView(Vertical):
    """Strip above, table below; the table's cursor is the strip's."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[int, Block] = {}
        self._newest: str | None = None

    def compose(self) -> list[Widget]:
        empty = Static("The blocks appear when the model is loaded.", id="no-blocks")
        return [empty, Line(id="block-line"), Strip(widget_id="block-strip"), LiveTable(COLUMNS, widget_id="blocks")]

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    def show(self, state: RunState) -> str:
        """Fills strip and table; the cursor goes along with the newest block. Returns the pane's figures in a line."""
        self._found, table = blocks(state), self.table
        following = table.sort_key is None and table.selected in (None, self._newest)
        table.show(rows(self._found))
        latest = newest(state)
        self._newest = None if latest is None else str(latest)
        if following and self._newest and state.status == "running":
            table.select(self._newest)
        self.query_one("#no-blocks").display = not self._found
        for part in ("#block-line", "#block-strip", "#blocks"):
            self.query_one(part).display = bool(self._found)
        self.mark(state)
        return line(state, self._found) if self._found else ""

    def mark(self, state: RunState) -> None:
        """Draws the strip with the selected block marked."""
        chosen = self.table.selected
        numbers = list(self._found)
        at = numbers.index(int(chosen)) if chosen is not None and int(chosen) in numbers else None
        self.query_one("#block-line", Line).put(heading(state, self._found, chosen))
        self.query_one(Strip).show(bars(self._found)[1], at, numbers)


def rows(found: dict[int, Block]) -> dict[str, dict[str, Any]]:
    """One row a block."""
    return {
        str(number): {
            "block": number, "planned": block.planned, "sparsity": block.sparsity, "sensitivity": block.sensitivity,
            "error": block.error, "before": block.before, "after": block.after, "seconds": block.seconds,
            "what": what(block),
        }
        for number, block in found.items()
    }  # fmt: skip


def what(block: Block) -> str:
    """What was done to a block, in words."""
    if block.gone:
        return "removed"
    parts = [f"{event.of - len(event.removed)}/{event.of} {event.part}" for event in block.parts.values()]
    if block.before is not None and block.after is not None:
        gain = block.after / block.before - 1 if block.before else 0.0
        parts.insert(0, f"error {100 * gain:+.0f}%" if block.after < block.before else "kept as it was")
    elif block.sparsity is not None and not parts:
        parts.append("pruned")
    elif block.planned is not None and not parts:
        parts.append("planned")
    return " · ".join(parts) or "as it was"


def bars(found: dict[int, Block]) -> tuple[str, list[Bar]]:
    """What the strip shows: the share of parts that stay, or sparsities, those only planned hatched."""
    if any(block.kept is not None for block in found.values()):
        part = next(list(b.parts)[-1] for b in reversed(found.values()) if b.parts)
        return f"{part} kept", [Bar(0.0 if block.gone else block.kept) for block in found.values()]
    done = [Bar(b.planned if b.sparsity is None else b.sparsity, b.sparsity is not None) for b in found.values()]
    return "sparsity", done


def line(state: RunState, found: dict[int, Block]) -> str:
    """The pane's figures in one line."""
    whole = whole_model(state)
    recovered = [block for block in found.values() if block.before is not None and block.after is not None]
    if recovered:
        before = sum(block.before or 0.0 for block in recovered) / len(recovered)
        after = sum(block.after or 0.0 for block in recovered) / len(recovered)
        return f"{len(recovered)} of {len(found)} recovered · error {_error(before)} → {_error(after)}"
    if whole:
        return whole[-1]
    if state.removals:
        last = state.removals[-1]
        return f"{last.done} of {last.total} · {removed(last)}"
    pruned = sum(all(layer.sparsity is not None for layer in layers) for layers in members(state).values())
    if pruned:
        return f"{pruned} of {len(found)} pruned"
    if state.plans:
        plan = list(state.plans.values())[-1]
        return f"plan {plan.allocation} {figures.share(plan.sparsity)}"
    return f"{len(found)} blocks"


def heading(state: RunState, found: dict[int, Block], selected: str | None) -> Text:
    """The line above the strip: what the bars are, and the numbers of the block under the cursor."""
    label, shown = bars(found)
    text = Text.assemble((f" {label}", "bold"), no_wrap=True, overflow="ellipsis")
    if any(not bar.done and bar.value is not None for bar in shown):
        text.append(" █ done ▒ planned" if any(b.done and b.value is not None for b in shown) else " ▒ planned")
    block = found.get(int(selected)) if selected is not None else None
    if block is not None:
        text.append(f"  block {selected}", "bold yellow")
        pairs = (("plan", block.planned), ("is", block.sparsity), ("kept", block.kept))
        text.append("".join(f" {name} {figures.share(value)}" for name, value in pairs if value is not None))
    return text
