"""A linear ramp over the blocks, its slope the best of nine by divergence from the dense model (ATP, Huang et al. 2025)."""

from __future__ import annotations

from engine import figures
from engine.pruning.allocation import HIGHEST, Plan, Request
from engine.pruning.levels import pruned

REACH = 0.2
"""the steepest ramp's ends lie this far from the asked sparsity"""
TRIES = 9
PATIENCE = 2
"""steeper ramps are not tried after so many in a row were worse"""


def allocate(request: Request) -> Plan:
    """s_i = S - β(L - 1)/2 + βi for block i of L; β grows from 0 in equal steps."""
    last = request.walk.blocks() - 1
    reach = min(REACH, request.sparsity, HIGHEST - request.sparsity)
    slopes = [2 * reach * k / (TRIES - 1) / last for k in range(TRIES)] if last and reach > 0 else [0.0]
    if len(slopes) == 1:
        return Plan(ramp(request, 0.0))
    best = judged(request, slopes)
    half = figures.share(best * last / 2)
    return Plan(ramp(request, best), {m.name: f"a ramp from -{half} to +{half}" for m in request.matrices})


def ramp(request: Request, slope: float) -> dict[str, float]:
    """The shares of one slope."""
    blocks = request.walk.blocks()
    return request.by_block([request.sparsity + slope * (i - (blocks - 1) / 2) for i in range(blocks)])


def judged(request: Request, slopes: list[float]) -> float:
    """The slope whose pruned model is nearest to the dense one."""
    trial, grams, pruner = request.trial(), request.grams(), request.pruner()
    found: list[float] = []
    for number, slope in enumerate(slopes):
        request.workspace.progress("judging ramps", number, len(slopes), "ramps")
        with pruned(request.walk, grams, pruner, ramp(request, slope)):
            found.append(trial.divergence())
        if number - found.index(min(found)) >= PATIENCE:
            break
    return slopes[found.index(min(found))]
