"""One matrix or one block explained: what it got and why, its error curve, what its loss moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from engine import events as ev
from engine import figures
from engine.state import LayerState, RunState
from tui.blocks import blocks, members
from tui.widgets.states import bar, height

LISTED = 64
LISTED_HEADS = 8


def lines(pairs: list[tuple[str, str]], width: int = 12) -> Text:
    """Names and values below each other."""
    text = Text()
    for key, value in pairs:
        text.append(f"{key:<{width}}", "bright_black")
        text.append(f"{value}\n", "bold" if key in ("parameters", "on disk") else "")
    return text


def figure(row: Mapping[str, Any]) -> Text:
    """A row of the figures with every column, the ones too that a narrow table leaves out."""
    named = {"figure": "figure", "stage": "stage", "value": "value [95%]", "change": "to dense", "n": "n"}
    return lines([(label, str(row[key])) for key, label in named.items() if row[key] is not None], 14)


def spark(errors: list[float], top: float) -> str:
    """An error curve as one character a point, as high as its share of `top`."""
    return "".join(height(error, top) for error in errors)


def fate(layer: LayerState) -> Text:
    """What a run did to a matrix, and means to do."""
    text = Text()
    if layer.planned is not None:
        text.append_text(lines([("planned", figures.share(layer.planned, 2))]))
    if layer.reason:
        text.append_text(lines([("because", layer.reason)]))
    for name, bits in (("planned", layer.planned_bits), ("codes", layer.bits)):
        if bits is not None:
            text.append_text(lines([(name, f"{bits} bits")]))
    if layer.error is not None or layer.sparsity is not None:
        text.append_text(lines([("error", figures.number(layer.error, 5)), ("took", figures.duration(layer.seconds))]))
    return text


def curve(tried: ev.LayerSensitivity | None) -> Text:
    """A matrix's relative output error at each measured sparsity, and what the model's loss moved."""
    if tried is None:
        return Text()
    text, top = Text.assemble(("\nError alone pruned\n", "underline")), max(tried.errors)
    for ratio, error in zip(tried.ratios, tried.errors, strict=False):
        text.append(f"{figures.share(ratio, 0):>5} ", "bright_black")
        text.append(f"{figures.number(error, 5):>9} ")
        text.append_text(bar(round(1000 * error), max(1, round(1000 * top)), 10))
        text.append("\n")
    if tried.loss is not None:
        at = figures.share(ev.middle(tried.ratios), 0)
        text.append_text(lines([(f"loss at {at}", f"{tried.loss:+.4f} nats a token")]))
    for group, moved in sorted(enumerate(tried.heads), key=lambda pair: -pair[1])[:LISTED_HEADS]:
        text.append_text(lines([(f"head group {group}", f"{moved:+.4f} when silent")], 14))
    return text


def matrix(layer: LayerState, tried: ev.LayerSensitivity | None) -> Text:
    """Everything that a run knows of a matrix."""
    shape = "×".join(map(str, layer.shape))
    text = lines([("block", str(layer.block)), ("shape", shape), ("parameters", figures.count(layer.parameters))])
    if layer.sparsity is not None:
        text.append_text(lines([("sparsity", figures.share(layer.sparsity, 2))]))
    text.append_text(fate(layer))
    text.append_text(curve(tried))
    if tried is None and all(
        known is None for known in (layer.sparsity, layer.planned, layer.bits, layer.planned_bits)
    ):
        text.append("\nthe run has neither planned, tried nor changed it so far\n", "bright_black")
    return text


def block(state: RunState, number: int) -> Text:
    """Everything that a run knows of a block: figures, parts that went, its matrices."""
    found = blocks(state)[number]
    text = Text()
    for name, value in (("planned", found.planned), ("sparsity", found.sparsity)):
        if value is not None:
            text.append_text(lines([(name, figures.share(value, 2))]))
    if found.error is not None:
        text.append_text(lines([("error", figures.number(found.error, 5))]))
    if found.before is not None:
        shown = f"{figures.number(found.before, 5)} → {figures.number(found.after, 5)}"
        text.append_text(lines([("recovery", shown)]))
    text.append_text(lines([("took", figures.duration(found.seconds))]))
    for event in found.parts.values():
        text.append_text(_parts(event))
    matrices = members(state).get(number, [])
    if matrices:
        text.append("\nMatrices\n", "underline")
    for layer in matrices:
        text.append(f"{figures.share(layer.sparsity):>7} {figures.number(layer.error, 4):>8}  ", "bright_black")
        text.append(f"{layer.name}\n")
    return text


def _parts(event: ev.PartsRemoved) -> Text:
    """Which parts went, in full where they are not too many."""
    text = Text.assemble((f"\n{event.of - len(event.removed)} of {event.of} {event.part} stay\n", "underline"))
    shown = ", ".join(map(str, event.removed[:LISTED]))
    more = len(event.removed) - LISTED
    text.append(f"removed: {shown or 'none'}{f' and {more} more' if more > 0 else ''}\n")
    return text
