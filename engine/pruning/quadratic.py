"""What solvers, refits and measurements take from a Gram matrix G = XᵀX/T: damped factors, and output errors.

Shapes: O out, I in.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engine.errors import EngineError

ATTEMPTS = 6


def factors(gram_II: torch.Tensor, damping: torch.Tensor) -> Iterator[torch.Tensor]:
    """The lower Cholesky factors of G + damping I, with ten times the damping, and so on, as far as they exist: the first
    is wanted, the others are for who finds it too near to singular. Raises EngineError when there are no more.
    """
    for attempt in range(ATTEMPTS):
        damped_II = gram_II.clone()
        damped_II.diagonal().add_(damping * 10**attempt)
        lower_II, failed = torch.linalg.cholesky_ex(damped_II)
        if not failed:
            yield lower_II
    raise EngineError("the Gram matrix of the calibration inputs is not positive definite", hint="raise the damping")


def energy(weight_OI: torch.Tensor, gram_II: torch.Tensor) -> float:
    """tr(WGWᵀ) in float32: the mean squared norm of the outputs."""
    weight_OI = weight_OI.float()
    return float(((weight_OI @ gram_II) * weight_OI).sum())


def relative(error: float, whole: float) -> float:
    """An error's share of the whole; 0 where rounding left less."""
    return max(0.0, error) / max(1e-30, whole)


def gram_error(before_OI: torch.Tensor, after_OI: torch.Tensor, gram_II: torch.Tensor, whole: float) -> float:
    """tr((W - W')G(W - W')ᵀ) / tr(WGWᵀ), the relative output error over all calibration tokens; `whole` is what is below."""
    return relative(energy(before_OI.float() - after_OI.float(), gram_II), whole)
