"""What leaves with a part is given to the parts that stay: a least-squares refit of the matrix that reads them.

With X the matrix's inputs, K the columns that stay and R those that go, the outputs X Wᵀ change least when
    W' = W_K + W_R G_RK (G_KK + damping I)⁻¹,    G = XᵀX / tokens.
Where the matrix has a bias, G is taken about the mean inputs m, and the bias takes the rest: b' = b + W m - W' m_K.

Shapes: T tokens, O out, I in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from engine.calibration import Walk
from engine.matrices import Products, gram_matrix, sum_of_squares
from engine.pruning.quadratic import energy, factors, relative


@dataclass
class Inputs:
    """A matrix's inputs X: mean [I], mean |x| [I], mean squares [I] and, when asked for, the Gram matrix XᵀX/T [I, I]."""

    tokens: int
    mean: torch.Tensor
    magnitude: torch.Tensor
    squares: torch.Tensor
    gram: torch.Tensor | None

    @classmethod
    def of(cls, x: torch.Tensor, want_gram: bool) -> Inputs:
        """From X [..., I] of any dtype; everything in float32."""
        x_TI = x.detach().reshape(-1, x.shape[-1])
        gram = gram_matrix(x_TI.float()) / len(x_TI) if want_gram else None
        squares = sum_of_squares(x_TI) / len(x_TI) if gram is None else gram.diagonal().clone()
        mean, magnitude = x_TI.float().mean(0), x_TI.abs().float().mean(0)
        return cls(len(x_TI), mean, magnitude, squares, gram)

    def merged(self, other: Inputs) -> Inputs:
        """Of both together."""
        tokens = self.tokens + other.tokens
        a, b = self.tokens / tokens, other.tokens / tokens
        gram = None if self.gram is None or other.gram is None else self.gram * a + other.gram * b
        mean, magnitude = self.mean * a + other.mean * b, self.magnitude * a + other.magnitude * b
        return Inputs(tokens, mean, magnitude, self.squares * a + other.squares * b, gram)

    def centred(self, about_mean: bool) -> torch.Tensor:
        """The Gram matrix, about the mean inputs where a bias can take these."""
        assert self.gram is not None
        return self.gram - torch.outer(self.mean, self.mean) if about_mean else self.gram

    @property
    def variance(self) -> torch.Tensor:
        return (self.squares - self.mean.square()).clamp_min(0)


@contextmanager
def observed(walk: Walk, weights: Mapping[str, torch.Tensor], want_gram: bool) -> Iterator[dict[str, Inputs]]:
    """The inputs of the matrices {name: weight [O, I]}, gathered while their block runs inside."""
    names = {weight.data_ptr(): name for name, weight in weights.items()}
    found: dict[str, Inputs] = {}

    def seen(x: torch.Tensor, w: torch.Tensor) -> None:
        name = names.get(w.data_ptr())
        if name is not None:
            with torch.autocast(walk.subject.device.type, enabled=False):
                new = Inputs.of(x, want_gram)
                found[name] = found[name].merged(new) if name in found else new

    with Products(seen):
        yield found


@dataclass(frozen=True)
class Refit:
    """A matrix [O, I] whose removed columns are zero, its bias [O] where it has one, and the relative output error."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    error: float


def refit(
    weight_OI: torch.Tensor,
    bias: torch.Tensor | None,
    inputs: Inputs,
    kept: torch.Tensor,
    damping: float,
    compensate: bool = True,
) -> Refit:
    """The matrix without the columns that are not kept; float32 in and out.

    Weights that are zero already stay so; where that leaves less than no compensation at all, there is none.
    """
    gone = torch.ones(weight_OI.shape[1], dtype=torch.bool, device=weight_OI.device)
    gone[kept] = False
    plain_OI = weight_OI.masked_fill(gone, 0)
    assert inputs.gram is not None
    whole = energy(weight_OI, inputs.gram)
    plain = Refit(plain_OI, bias, relative(output_error(weight_OI - plain_OI, None, inputs), whole))
    if not compensate:
        return plain
    gram = inputs.centred(bias is not None)
    new_OI = plain_OI.clone()
    new_OI[:, kept] += weight_OI[:, gone] @ transfer(gram, kept, gone, damping)
    new_OI[weight_OI == 0] = 0
    new_bias = None if bias is None else bias + (weight_OI - new_OI) @ inputs.mean
    shift = None if bias is None or new_bias is None else bias - new_bias
    done = Refit(new_OI, new_bias, relative(output_error(weight_OI - new_OI, shift, inputs), whole))
    return done if done.error <= plain.error else plain


def transfer(gram_II: torch.Tensor, kept: torch.Tensor, gone: torch.Tensor, damping: float) -> torch.Tensor:
    """How the removed inputs are predicted from those that stay: G_RK (G_KK + damping I)⁻¹ [R, K]."""
    factor = factored(gram_II[kept][:, kept], damping)
    return torch.cholesky_solve(gram_II[kept][:, gone], factor).T


def factored(gram_II: torch.Tensor, damping: float) -> torch.Tensor:
    """The lower Cholesky factor of the Gram matrix, damped by a share of its mean diagonal, or by more where it has none."""
    return next(factors(gram_II, damping * gram_II.diagonal().mean().clamp_min(1e-12)))


def output_error(difference_OI: torch.Tensor, shift_O: torch.Tensor | None, inputs: Inputs) -> float:
    """||X(W - W')ᵀ + (b - b')||² / T, from the statistics alone."""
    assert inputs.gram is not None
    error = energy(difference_OI, inputs.gram)
    if shift_O is not None:
        error += float(2 * shift_O @ (difference_OI @ inputs.mean) + shift_O.square().sum())
    return error
