"""A linear ramp over the blocks, its slope the best of nine by divergence from the dense model (ATP, Huang et al. 2025)."""

from __future__ import annotations

from engine import figures
from engine.pruning.allocation import Plan, Request
from engine.pruning.balance import HIGHEST

REACH = 0.2
"""the steepest ramp's ends lie this far from the asked sparsity"""
TRIES = 9
PATIENCE = 2
"""steeper ramps are not tried after so many in a row were worse"""


def allocate(request: Request) -> Plan:
    """s_i = S - β(L - 1)/2 + βi for block i of L; β grows from 0 in equal steps."""
    return planned(request, judged(request)[0]) if len(slopes(request)) > 1 else Plan(ramp(request, 0.0))


def slopes(request: Request) -> list[float]:
    """The β that are tried; 0 alone where nothing else can be."""
    last = request.walk.blocks() - 1
    reach = reach_at(request.sparsity)
    return [2 * reach * k / (TRIES - 1) / last for k in range(TRIES)] if last and reach > 0 else [0.0]


def reach_at(sparsity: float) -> float:
    """How far from this asked sparsity the steepest ramp's ends lie; not above 0 where there is no room."""
    return min(REACH, sparsity, HIGHEST - sparsity)


def planned(request: Request, slope: float) -> Plan:
    """The plan of one slope."""
    half = figures.share(slope * (request.walk.blocks() - 1) / 2)
    return Plan(ramp(request, slope), {m.name: f"a ramp from -{half} to +{half}" for m in request.matrices})


def ramp(request: Request, slope: float) -> dict[str, float]:
    """The shares of one slope."""
    blocks = request.walk.blocks()
    return request.by_block([request.sparsity + slope * (i - (blocks - 1) / 2) for i in range(blocks)])


def judged(request: Request) -> tuple[float, float]:
    """The slope whose pruned model is nearest to the dense one, and how far from it that is."""
    tried, found = slopes(request), []
    for number, slope in enumerate(tried):
        request.workspace.progress("judging ramps", number, len(tried), "ramps")
        found.append(request.loss(ramp(request, slope)))
        if number - found.index(min(found)) >= PATIENCE:
            break
    best = min(found)
    return tried[found.index(best)], best
