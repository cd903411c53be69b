"""The report's sections on the model's parts, as Markdown: layers, plans, sensitivities, what was removed and recovered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine import events as ev
from engine import figures, means
from engine.state import LayerState, RunState

WORST = 5
"""how many of each end of a ranking are named"""
LISTED = 16
"""removed parts that are named; result.json has all of them"""

Part = TypeVar("Part")


def section(title: str, headers: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A heading and a Markdown table; nothing for an empty one."""
    if not body:
        return ""
    return "\n".join([f"## {title}", "", *table(headers, body)])


def table(headers: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [headers, ["---"] * len(headers), *([cell.replace("|", "\\|") for cell in row] for row in body)]
    return [f"| {' | '.join(line)} |" for line in lines]


def fenced(text: str, language: str = "text") -> str:
    """A block of text or code."""
    fence = "```" if "```" not in text else "````"
    return f"{fence}{language}\n{text}\n{fence}"


def layers(state: RunState) -> str:
    """Per block the sparsity and the mean error; then the worst matrices."""
    pruned = [layer for layer in state.layers.values() if layer.sparsity is not None]
    blocks: dict[int, list[LayerState]] = {}
    for layer in pruned:
        blocks.setdefault(layer.block, []).append(layer)
    body = [[str(block), str(len(found)), *_block(found)] for block, found in sorted(blocks.items())]
    worst = sorted((x for x in pruned if x.error is not None), key=lambda x: x.error or 0.0, reverse=True)[:WORST]
    named = [[x.name, "x".join(map(str, x.shape)), figures.share(x.sparsity), _error(x.error)] for x in worst]
    parts = [
        section("Layers", ["block", "matrices", "sparsity", "mean error"], body),
        section("Largest errors", ["matrix", "shape", "sparsity", "error"], named),
    ]
    return "\n\n".join(part for part in parts if part)


def quantized(state: RunState) -> str:
    """Per block the bits of the codes and the mean error."""
    blocks: dict[int, list[LayerState]] = {}
    for layer in state.layers.values():
        if layer.bits is not None:
            blocks.setdefault(layer.block, []).append(layer)
    body = [[str(block), str(len(found)), *_bits(found)] for block, found in sorted(blocks.items())]
    return section("Quantized layers", ["block", "matrices", "bits", "mean error"], body)


def plans(state: RunState) -> str:
    """Each plan whose matrices' sparsities differ: the densest and the sparsest of them, and why they are so."""
    parts = []
    for step, plan in sorted(state.plans.items()):
        ranked = sorted(plan.shares, key=plan.shares.__getitem__)
        if not ranked or plan.shares[ranked[0]] == plan.shares[ranked[-1]]:
            continue
        body = [[name, figures.share(plan.shares[name]), plan.reasons.get(name, "")] for name in _ends(ranked)]
        title = f"Plan of step {step + 1}: {plan.allocation}, {figures.share(plan.sparsity)}"
        parts.append(section(title, ["matrix", "sparsity", "why"], body))
    return "\n\n".join(parts)


def sensitivity(state: RunState) -> str:
    """The most and the least sensitive matrices, by loss where it was measured and else by error; the head groups."""
    known = list(state.sensitivities.values())
    if not known:
        return ""
    ranked = sorted(known, key=lambda event: event.rank, reverse=True)
    ratios = [f"error at {figures.share(ratio, 0)}" for ratio in known[0].ratios]
    body = [[x.layer, _error(x.loss), *map(_error, x.errors)] for x in _ends(ranked)]
    heads = sorted(((loss, x.layer, i) for x in known for i, loss in enumerate(x.heads)), reverse=True)
    parts = [
        section("Sensitivity, most first", ["matrix", "loss", *ratios], body),
        section("Head groups", ["matrix", "group", "loss"], [[name, str(i), _error(x)] for x, name, i in _ends(heads)]),
    ]
    note = "Losses are KL divergences from the dense model in nats a token, when that part alone is pruned or silenced."
    return "\n\n".join([part for part in parts if part] + [note])


def removals(state: RunState) -> str:
    """What structured pruning took out, of each block or of the whole model, by its numbers before that step."""
    body = [
        [str(r.step + 1), r.part, _place(r), f"{r.of - len(r.removed)} of {r.of}", _error(r.error), _listed(r.removed)]
        for r in state.removals
    ]
    return section("Removed parts", ["step", "part", "block", "left", "error", "removed"], body)


def recoveries(state: RunState) -> str:
    """Every recovered block's error before and after, by its number in that step."""
    body = [[str(r.step + 1), str(r.block), _error(r.before), _error(r.after)] for r in state.recoveries]
    return section("Recovered blocks", ["step", "block", "error before", "error after"], body)


def trainings(state: RunState) -> str:
    """Every epoch of training virtual tokens, checked on development rows; the best so far are marked."""
    body = [
        [str(t.step + 1), t.candidate, str(t.epoch), _error(t.loss), figures.quality(t.metric, t.accuracy), f"{t.skill:.3f}",
         str(t.n), "yes" if t.best else ""] for t in state.trainings
    ]  # fmt: skip
    figure = "/".join(dict.fromkeys(t.metric for t in state.trainings))
    return section("Trained prompts", ["step", "prompt", "epoch", "loss", figure, "skill", "n", "best so far"], body)


def readings(state: RunState) -> str:
    """What every virtual token is nearest to, or began as."""
    body = [
        [str(r.step + 1), r.candidate, str(position), token.strip() or repr(token), f"{cosine:.3f}"]
        for r in state.readings
        for position, (token, cosine) in enumerate(zip(r.tokens, r.cosines, strict=False))
    ]
    return section("Virtual tokens", ["step", "prompt", "position", "token", "cosine"], body)


def _block(found: list[LayerState]) -> list[str]:
    sparsity = means.weighted((x.sparsity, x.parameters) for x in found)
    return [figures.share(sparsity), _error(means.mean(x.error for x in found))]


def _bits(found: list[LayerState]) -> list[str]:
    bits = means.weighted((x.bits, x.parameters) for x in found)
    return [figures.number(bits), _error(means.mean(x.error for x in found))]


def _place(removal: ev.PartsRemoved) -> str:
    return "all" if removal.block is None else str(removal.block)


def _listed(removed: Sequence[int]) -> str:
    more = f", and {len(removed) - LISTED} more" if len(removed) > LISTED else ""
    return ", ".join(map(str, removed[:LISTED])) + more or figures.NOTHING


def _ends(ranked: Sequence[Part]) -> list[Part]:
    """The first and the last ones of a ranking, or all where they are few."""
    return list(ranked) if len(ranked) <= 2 * WORST else [*ranked[:WORST], *ranked[-WORST:]]


def _error(value: float | None) -> str:
    return figures.NOTHING if value is None else f"{value:.3g}"
