"""Rounds column by column and lets the columns to the right make up for it (Frantar et al. 2023, arXiv 2210.17323).

H = XᵀX/T + damping; U the upper Cholesky factor of H⁻¹. Rounding column j leaves the error e_j = (w_j - q_j) / U_jj, and the
columns to its right move by -e_j U_j,:. A weight that pruning removed is set to zero when its column is reached, whatever moved
it, and its error is passed on like any other (as in SparseGPT, arXiv 2301.00774, section 3.5).

With `act_order` columns with large inputs go first; the grids are then made of the weights as they were, so that groups stay
neighbours in the file. Otherwise a group's grid is made when its first column is reached.
"""

from __future__ import annotations

import torch

from engine.matrices import Statistics
from engine.pruning.criteria.sparsegpt import inverse_factor
from engine.quantization.grid import Codes, Format, Grid, fitted, span
from engine.quantization.method import SHARES, Method, Settings

BLOCK, INNER = 128, 32  # columns whose updates stay within the block, within the inner block, at first


def quantize(weight_OI: torch.Tensor, statistics: Statistics, form: Format, settings: Settings) -> Codes:
    """The codes of weights [O, I] that answer the calibration inputs as the given ones do, as nearly as the grid allows."""
    order_I, dead_I, factor_II = statistics.once(
        ("ordered factor", settings.damping, settings.act_order),
        lambda gram_II: ordered_factor(gram_II, settings.damping, settings.act_order),
    )
    return Rounding(weight_OI, statistics, form, settings, order_I, dead_I).run(factor_II)


def ordered_factor(
    gram_II: torch.Tensor, damping: float, act_order: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The columns in the order of rounding [I], which of them (in that order) have no input [I], upper U in that order."""
    diagonal_I = gram_II.diagonal()
    order_I = diagonal_I.argsort(descending=True, stable=True) if act_order else torch.arange(len(gram_II))
    order_I = order_I.to(gram_II.device)
    return order_I, *inverse_factor(gram_II[order_I][:, order_I], damping)


class Rounding:
    """One matrix on its way: w_IO holds the columns in the order of rounding, as rows."""

    def __init__(
        self, weight_OI: torch.Tensor, statistics: Statistics, form: Format, settings: Settings,
        order_I: torch.Tensor, dead_I: torch.Tensor,
    ) -> None:  # fmt: skip
        self.form, self.settings, self.order_I = form, settings, order_I
        self.width = form.width(weight_OI.shape[1])
        self.importance_I = statistics.mean_squares
        self.late = not settings.act_order and self.width < weight_OI.shape[1]
        self.grid = self._later(weight_OI) if self.late else self._grid(weight_OI, self.importance_I)
        self.w_IO = weight_OI.T[order_I].contiguous()
        self.keep_IO = self.w_IO != 0
        self.w_IO[dead_I] = 0
        self.codes_IO = torch.empty_like(self.w_IO, dtype=torch.uint8)

    def run(self, factor_II: torch.Tensor) -> Codes:
        inner = INNER if self.width % INNER == 0 else self.width
        block = inner * -(-max(BLOCK, self.width if self.late else 0) // inner)
        columns = len(self.w_IO)
        for start in range(0, columns, block):
            end = min(start + block, columns)
            error_BO = torch.empty_like(self.w_IO[start:end])
            for begin in range(start, end, inner):
                stop = min(begin + inner, end)
                error_GO = error_BO[begin - start : stop - start]
                self._columns(begin, factor_II[begin:stop, begin:stop], error_GO)
                self.w_IO[stop:end].addmm_(factor_II[begin:stop, stop:end].T, error_GO, alpha=-1)
            self.w_IO[end:].addmm_(factor_II[start:end, end:].T, error_BO, alpha=-1)
        codes_IO = torch.empty_like(self.codes_IO)
        codes_IO[self.order_I] = self.codes_IO
        return Codes(self.grid, codes_IO.T.contiguous())

    def _columns(self, begin: int, factor_GG: torch.Tensor, error_GO: torch.Tensor) -> None:
        """The innermost loop: rounds a few columns, one at a time, and notes their errors."""
        diagonal = factor_GG.diagonal().tolist()
        groups = (self.order_I[begin : begin + len(error_GO)] // self.width).tolist()
        w_GO = self.w_IO[begin : begin + len(error_GO)]
        for j, group in enumerate(groups):
            at = begin + j
            if self.late and at % self.width == 0:
                self._group(group, at)
            scale_O, zero_O = self.grid.scale_OG[:, group], self.grid.zero_OG[:, group]
            code_O = torch.round(w_GO[j] / scale_O).add_(zero_O).clamp_(0, self.form.top)
            code_O = torch.where(self.keep_IO[at], code_O, zero_O)
            self.codes_IO[at] = code_O
            torch.sub(w_GO[j], (code_O - zero_O).mul_(scale_O), out=error_GO[j])
            error_GO[j] /= diagonal[j]
            w_GO[j + 1 :].addr_(factor_GG[j, j + 1 :], error_GO[j], alpha=-1)

    def _group(self, group: int, start: int) -> None:
        """Makes a group's grid of its weights as they are now."""
        columns = slice(start, start + self.width)
        now_OK = torch.where(self.keep_IO[columns], self.w_IO[columns], 0.0).T
        grid = self._grid(now_OK, self.importance_I[columns])
        self.grid.scale_OG[:, group], self.grid.zero_OG[:, group] = grid.scale_OG[:, 0], grid.zero_OG[:, 0]

    def _later(self, weight_OI: torch.Tensor) -> Grid:
        """Room for the grids of groups that are not reached yet."""
        scale_OG = weight_OI.new_empty(len(weight_OI), weight_OI.shape[1] // self.width)
        return Grid(self.form, scale_OG, torch.empty_like(scale_OG))

    def _grid(self, weight_OI: torch.Tensor, importance_I: torch.Tensor) -> Grid:
        if not self.settings.clip:
            return span(weight_OI, self.form)
        return fitted(weight_OI, self.form, importance_I, SHARES)


METHOD = Method(needs="gram", quantize=quantize)
