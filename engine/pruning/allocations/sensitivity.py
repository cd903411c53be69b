"""The least sum of output errors, each weighted by what the loss moves when its block (or matrix) is pruned alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from engine import figures
from engine.pruning.allocation import Plan, Request, ladder
from engine.sensitivity import measure

Costs = Mapping[str, Sequence[float]]


def allocate(request: Request) -> Plan:
    """Error curves on a ladder around the asked sparsity, losses at the asked one, then the cheapest split."""
    ratios = ladder(request.options)
    if len(ratios) == 1:
        return Plan({m.name: request.sparsity for m in request.matrices})
    workspace, walk, grams, pruner = request.workspace, request.walk, request.grams, request.pruner
    errors = measure.error_curves(
        walk, grams, pruner, ratios, partial(workspace.progress, "error curves", unit="blocks")
    )
    parts = measure.units(walk, request.options.unit)
    tell = partial(workspace.progress, "losses", unit=f"{request.options.unit}s")
    losses = measure.losses(walk, grams, pruner, request.trial, parts, request.sparsity, tell)
    at = ratios.index(request.sparsity)
    costs: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    for part, loss in zip(parts, losses, strict=True):
        whole = max(1e-30, sum(errors[m.name][at] for m in part))
        for m in part:
            costs[m.name] = [max(loss, 0.0) * error / whole for error in errors[m.name]]
            reasons[m.name] = f"its {request.options.unit} alone costs {loss:.4f} nats at {figures.share(ratios[at])}"
    return Plan(cheapest(ratios, costs, request.sizes, request.sparsity), reasons)


def cheapest(ratios: Sequence[float], costs: Costs, sizes: Mapping[str, int], mean: float) -> dict[str, float]:
    """Shares with the least sum of costs whose mean weighted by size is `mean`.

    The costs are convex and linear between the ratios (what is not convex is made so from below): the steps that cost least a
    weight are taken in turn until the mean is reached, the last one in part, which is optimal.
    """
    steps = []
    for order, (name, cost) in enumerate(costs.items()):
        corners = hull(ratios, cost)
        for number, (a, b) in enumerate(zip(corners, corners[1:], strict=False)):
            width = ratios[b] - ratios[a]
            steps.append(((cost[b] - cost[a]) / (width * sizes[name]), order, number, name, width))
    shares = dict.fromkeys(costs, ratios[0])
    left = (mean - ratios[0]) * sum(sizes[name] for name in costs)
    for _, _, _, name, width in sorted(steps):
        taken = max(0.0, min(width, left / sizes[name]))
        shares[name] += taken
        left -= taken * sizes[name]
    return shares


def hull(xs: Sequence[float], ys: Sequence[float]) -> list[int]:
    """Indices of the corners of the largest convex function below the points (xs ascending)."""
    corners: list[int] = []
    for i in range(len(xs)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (ys[b] - ys[a]) * (xs[i] - xs[a]) < (ys[i] - ys[a]) * (xs[b] - xs[a]):
                break
            corners.pop()
        corners.append(i)
    return corners
