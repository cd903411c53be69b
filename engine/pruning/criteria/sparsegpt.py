"""Prunes column by column and lets the columns to the right make up for it (Frantar & Alistarh 2023, arXiv 2301.00774).

H = XᵀX/T + damping; U the upper Cholesky factor of H⁻¹. A weight's cost is w²/U_jj²; removing it adds the error
-w/U_jj * U_j,: to its row. The mask of a block of columns is decided when the block is reached (an N:M group's when
the group is). Columns are kept as rows of a transposed copy, and updates go in three sizes (group, block, rest), so
that most of the work is matrix products.
"""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.masks import Stack
from engine.pruning.quadratic import factors

GROUP = 32  # columns whose updates stay within the group at first


def solve(weight_OI: torch.Tensor, statistics: Statistics, stack: Stack, settings: Settings) -> torch.Tensor:
    """The pruned and updated weight [O, I]."""
    dead, factor_II = statistics.once(
        ("inverse factor", settings.damping), lambda gram_II: inverse_factor(gram_II, settings.damping)
    )
    w_IO = weight_OI.T.contiguous().clone()
    w_IO[dead] = 0
    group = stack.n_of_m[1] if stack.n_of_m else GROUP
    size = -(-settings.block_size // group) * group
    for start in range(0, len(w_IO), size):
        end = min(start + size, len(w_IO))
        part = stack.of_columns(start, end)
        _block(w_IO[start:end], w_IO[end:], factor_II[start:end, start:], part, group)
    return w_IO.T


def inverse_factor(gram_II: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Which inputs are always zero [I], and upper U [I, I] with UᵀU = H⁻¹; damping grows tenfold while H is numerically
    singular.
    """
    dead = gram_II.diagonal() == 0
    mean = gram_II.diagonal().mean().clamp_min(torch.finfo(gram_II.dtype).tiny)
    regular_II = gram_II.clone()
    regular_II.diagonal()[dead] = mean
    uppers = (torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
              for lower in factors(regular_II, damping * mean))  # fmt: skip
    return dead, next(upper for upper, failed in uppers if not failed)


def _block(w_BO: torch.Tensor, rest_RO: torch.Tensor, factor: torch.Tensor, stack: Stack, group: int) -> None:
    """Prunes the columns of one block in place and pushes the error to the rest; factor is U's rows [B, B + R]."""
    size = len(w_BO)
    diagonal = factor.diagonal()
    keep_BO = None if stack.n_of_m else stack.keep((w_BO / diagonal[:, None]).square_().T).T
    error_BO = torch.empty_like(w_BO)
    for start in range(0, size, group):
        end = min(start + group, size)
        w, within = w_BO[start:end], factor[start:end, start:end]
        keep = stack.keep((w / diagonal[start:end, None]).square_().T).T if keep_BO is None else keep_BO[start:end]
        _columns(w, within, keep, error_BO[start:end])
        w_BO[end:].addmm_(factor[start:end, end:size].T, error_BO[start:end], alpha=-1)
    rest_RO.addmm_(factor[:, size:].T, error_BO, alpha=-1)


def _columns(w_GO: torch.Tensor, factor_GG: torch.Tensor, keep_GO: torch.Tensor, error_GO: torch.Tensor) -> None:
    """The innermost loop: one column at a time."""
    drop = (~keep_GO).to(w_GO.dtype)
    diagonal = factor_GG.diagonal().tolist()
    for j in range(len(w_GO)):
        torch.mul(w_GO[j], drop[j], out=error_GO[j])
        w_GO[j] -= error_GO[j]
        error_GO[j] /= diagonal[j]
        w_GO[j + 1 :].addr_(factor_GG[j, j + 1 :], error_GO[j], alpha=-1)


CRITERION = Criterion(needs="gram", solve=solve)
