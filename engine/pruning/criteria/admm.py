"""Alternates between least squares and the pattern, then fits what stays (Meng et al. 2024, arXiv 2406.07831, "ALPS").

Minimizes tr((B - W) G (B - W)ᵀ) over weights B with the pattern, G = XᵀX/T. Weight and G are scaled so that G has a unit
diagonal, G is decomposed once, and ADMM in its scaled form repeats

    B = (W G + rho (D - U)) (G + rho)⁻¹,   D = projection of B + U onto the pattern,   U = U + B - D

with a rho that grows while the support still changes. Then the support is fixed and a few conjugate-gradient steps, each row
with its own step length, solve for the weights that stay. Works on all matrices that share an input together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.masks import NearlyKeep, Stack

RHO = 0.3  # the first penalty, on the unit diagonal
EVERY = 3  # iterations between looks at the support
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # more than this share of the support has changed: rho grows so
SETTLED = 1e-4  # a smaller share than this ends the iterations


@dataclass(frozen=True)
class Decomposed:
    """The damped Gram matrix with a unit diagonal, the scales [I] that made it so, its eigenvalues and eigenvectors."""

    gram_II: torch.Tensor
    scale_I: torch.Tensor
    values_I: torch.Tensor
    vectors_II: torch.Tensor

    @classmethod
    def of(cls, gram_II: torch.Tensor, damping: float) -> Decomposed:
        scaled_II, scale_I = normalized(gram_II, damping)
        return cls(scaled_II, scale_I, *torch.linalg.eigh(scaled_II))

    def inverse(self, rho: float) -> torch.Tensor:
        """(G + rho)⁻¹ [I, I]."""
        return (self.vectors_II / (self.values_I.clamp_min(0) + rho)) @ self.vectors_II.T


def solve(weight_OI: torch.Tensor, statistics: Statistics, stack: Stack, settings: Settings) -> torch.Tensor:
    """The pruned and refitted weight [O, I]."""
    known = statistics.once(("eigen", settings.damping), lambda gram_II: Decomposed.of(gram_II, settings.damping))
    gram_II, scale_I = known.gram_II, known.scale_I
    w_OI = weight_OI * scale_I
    guess_OI = alternate(w_OI, known, stack, settings.iterations)
    keep_OI = stack.keep(guess_OI.abs()) & (scale_I > 0)
    return torch.where(scale_I > 0, refit(w_OI, guess_OI, gram_II, keep_OI, settings.polish) / scale_I, 0.0)


def normalized(gram_II: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The damped Gram matrix scaled to a unit diagonal, and the scales [I]; 0 where the input is always zero."""
    diagonal_I = gram_II.diagonal()
    dead_I = diagonal_I == 0
    damped_I = diagonal_I + damping * diagonal_I.mean()
    root_I = torch.where(dead_I, 1.0, damped_I.sqrt())
    scaled_II = gram_II / (root_I[:, None] * root_I)
    scaled_II.diagonal().fill_(1.0)
    return scaled_II, torch.where(dead_I, 0.0, root_I)


def alternate(w_OI: torch.Tensor, known: Decomposed, stack: Stack, iterations: int) -> torch.Tensor:
    """B + U [O, I] after the iterations: the largest of it, by the pattern, are the support."""
    target_OI = w_OI @ known.gram_II
    nearly_keep = NearlyKeep(stack)
    keep_OI = nearly_keep(w_OI.abs())
    d_OI, u_OI = w_OI * keep_OI, torch.zeros_like(w_OI)
    rho, inverse_II = RHO, known.inverse(RHO)
    last_OI, b_OI = keep_OI, w_OI
    for iteration in range(1, iterations + 1):
        b_OI = torch.addmm(b_OI, target_OI + rho * (d_OI - u_OI), inverse_II, beta=0)
        u_OI += b_OI
        keep_OI = nearly_keep(u_OI.abs())
        d_OI = u_OI * keep_OI
        u_OI -= d_OI
        if iteration % EVERY == 0 and iteration < iterations:
            changed = float((keep_OI != last_OI).sum()) / max(1, int(keep_OI.sum()))
            if changed < SETTLED:
                break
            factor = next(growth for share, growth in GROWTH if changed >= share)
            rho, last_OI = rho * factor, keep_OI
            u_OI /= factor
            inverse_II = known.inverse(rho)
    return d_OI + u_OI


def refit(
    w_OI: torch.Tensor, guess_OI: torch.Tensor, gram_II: torch.Tensor, keep_OI: torch.Tensor, steps: int
) -> torch.Tensor:
    """Conjugate gradients on the kept weights, from the guess: min over B with that support of tr((B - W) G (B - W)ᵀ)."""
    b_OI = guess_OI * keep_OI
    residual_OI = ((w_OI - b_OI) @ gram_II).mul_(keep_OI)
    direction_OI = residual_OI.clone()
    power_O1 = residual_OI.square().sum(1, keepdim=True)
    tiny = torch.finfo(w_OI.dtype).tiny
    for _ in range(steps):
        along_OI = (direction_OI @ gram_II).mul_(keep_OI)
        length_O1 = power_O1 / (direction_OI * along_OI).sum(1, keepdim=True).clamp_min(tiny)
        b_OI += length_O1 * direction_OI
        residual_OI -= length_O1 * along_OI
        new_O1 = residual_OI.square().sum(1, keepdim=True)
        direction_OI.mul_(new_O1 / power_O1.clamp_min(tiny)).add_(residual_OI)
        power_O1 = new_O1
    return b_OI


CRITERION = Criterion(needs="gram", solve=solve)
