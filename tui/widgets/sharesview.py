"""The Shares pane: a strip of the sparsities of a prune step's blocks, drawn while it is edited."""

from __future__ import annotations

from rich.text import Text
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from engine import figures
from tui.actions import Keys
from tui.shares import EXACT, Shares
from tui.widgets.line import Line
from tui.widgets.strip import Bar, Strip

KEYS = (
    ("{left} {right}", "block"), ("{up} {down}", "1%"), ("{raise} {lower}", "5%"), ("{balance}", "balance"),
    ("{open} {sort}", "store"), ("{undo}", "undo"), ("{next_step}", "next step"),
)  # fmt: skip


class SharesView(Vertical):
    """Numbers, strip and keys; or why there is nothing to edit."""

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self.keys = keys

    def compose(self) -> list[Widget]:
        strip = Strip(widget_id="share-strip", focusable=True)
        parts: list[Widget] = [Line(id="share-line"), strip, Static(_told(self.keys), id="share-keys")]
        for part in parts:
            part.display = False
        return [Static("reading the blocks …", id="no-shares", markup=False), *parts]

    def show(self, shares: Shares | None, problem: str) -> None:
        """Draws the shares, or says why there are none."""
        empty = self.query_one("#no-shares", Static)
        if problem != empty.content:
            empty.update(problem)
        empty.display = shares is None
        for part in ("#share-line", "#share-strip", "#share-keys"):
            self.query_one(part).display = shares is not None
        if shares is not None:
            self.query_one("#share-line", Line).put(_numbers(shares, self.keys))
            bars = [Bar(share, share == shares.stored[block]) for block, share in shares.values.items()]
            self.query_one(Strip).show(bars, shares.at, shares.blocks)


def _numbers(shares: Shares, keys: Keys) -> Text:
    """The block under the cursor, and the mean against the target."""
    block, share = shares.block, shares.values[shares.block]
    text = Text.assemble((f" block {block} ", "bold yellow"), (figures.share(share), "bold"), no_wrap=True)
    if share != shares.stored[block]:
        text.append(f" was {figures.share(shares.stored[block])}", "bright_black")
    if shares.matrices:
        missing = len(shares.matrices) - len(shares.named)
        unknown = f" ({missing} not in the model)" if missing else ""
        text.append(f" · beside {len(shares.matrices)} by name{unknown}", "bright_black")
    off = shares.mean - shares.target
    text.append(f"\n mean {figures.share(shares.mean, 2)} target {figures.share(shares.target, 2)} ")
    if abs(off) < EXACT:
        text.append("✓ met", "green")
    else:
        text.append(f"▲ {100 * off:+.2f}", "yellow")
    hint = keys.text("~ changed: {open} stores, {undo} undoes") if shares.changed else shares.origin
    text.append(f"\n {hint}", "yellow" if shares.changed else "bright_black")
    return text


def _told(keys: Keys) -> Text:
    text = Text()
    for key, label in KEYS:
        text.append(keys.text(key), "cyan bold")
        text.append(f" {label}  ")
    return text
