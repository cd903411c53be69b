"""Blocks with many outlying Wanda scores stay denser (OWL, Yin et al. 2024, arXiv 2310.05175)."""

from __future__ import annotations

import torch

from engine import figures
from engine.grams import Grams
from engine.pruning.allocation import Plan, Request


def allocate(request: Request) -> Plan:
    """S_i = 1 - D_i with the outlier ratios D moved and scaled to the asked mean and a range of 2λ, within S ± λ."""
    grams, spread = request.grams, request.options.spread
    ratios = [outlier_ratio(grams, block, request.options.outlier) for block in range(request.walk.blocks())]
    low, high = min(ratios), max(ratios)
    wishes = [1 - 2 * spread * (ratio - low) / (high - low) if high > low else 1.0 for ratio in ratios]
    shares = request.by_block(wishes, max(0.0, request.sparsity - spread), min(0.99, request.sparsity + spread))
    reasons = {m.name: f"{figures.share(ratios[m.block], 2)} outliers in its block" for m in request.matrices}
    return Plan(shares, reasons)


def outlier_ratio(grams: Grams, block: int, factor: float) -> float:
    """Share of the block's scores |W|·||X|| above `factor` times their mean (equation 2)."""
    scores = torch.cat([
        (m.weight.float().abs() * statistics.mean_squares.sqrt()).flatten()
        for matrices, statistics in grams.groups(block)
        for m in matrices
    ])  # fmt: skip
    return float((scores > factor * scores.mean()).float().mean())
