"""Scales columns with large inputs up before rounding (Lin et al. 2024, arXiv 2306.00978), where inputs can be scaled down.

A column's scale is s = (its input's root mean square) ^ a, the same for all matrices that share the input, with the a in [0, 1]
that leaves the least output error tr((W - W')G(W - W')ᵀ), W' = Q(W s) / s. (The paper takes mean magnitudes and samples of
inputs.) Then, as there, a group's grid may span less than its weights where that leaves a smaller error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.matrices import Statistics
from engine.pruning.quadratic import energy
from engine.quantization.grid import Codes, Format, fitted, span
from engine.quantization.method import SHARES, Method, Settings

POWERS = tuple(step / 10 for step in range(1, 11))
LEAST = 1e-4  # a column's scale before normalization is no smaller, for inputs that are always zero


def quantize(weight_OI: torch.Tensor, statistics: Statistics, form: Format, settings: Settings) -> Codes:
    """The nearest codes on grids that are fitted by the inputs' mean squares."""
    if not settings.clip:
        return Codes.nearest(weight_OI, span(weight_OI, form))
    return Codes.nearest(weight_OI, fitted(weight_OI, form, statistics.mean_squares, SHARES))


def scale(weights: Sequence[torch.Tensor], statistics: Statistics, forms: Sequence[Format]) -> torch.Tensor:
    """The scales [I] for matrices [O, I] that share an input."""
    assert statistics.gram is not None
    root_I = statistics.mean_squares.sqrt().clamp_min(LEAST)
    best_I = torch.ones_like(root_I)
    least = _error(weights, best_I, forms, statistics.gram)
    for power in POWERS:
        scale_I = root_I**power
        scale_I = scale_I / (scale_I.max() * scale_I.min()).sqrt()
        error = _error(weights, scale_I, forms, statistics.gram)
        if error < least:
            least, best_I = error, scale_I
    return best_I


def _error(
    weights: Sequence[torch.Tensor], scale_I: torch.Tensor, forms: Sequence[Format], gram_II: torch.Tensor
) -> float:
    total = 0.0
    for weight_OI, form in zip(weights, forms, strict=True):
        scaled_OI = weight_OI * scale_I
        rounded_OI = Codes.nearest(scaled_OI, span(scaled_OI, form)).values() / scale_I
        total += energy(weight_OI - rounded_OI, gram_II)
    return total


METHOD = Method(needs="gram", quantize=quantize, scale=scale)
