"""Options of the `prune` step."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.options import StepOptions
from engine.registry import ALLOCATIONS, CRITERIA, SCORES, STRUCTURES

N_OF_M = re.compile(r"([1-9]\d*):([1-9]\d*)")


class PruneOptions(StepOptions):
    """Set weights to zero, chosen by a criterion, in one pass over the calibration data."""

    use: Literal["prune"]
    criterion: str = "wanda"
    """who decides what goes: see `compress-tui list criteria`"""
    sparsity: float | None = Field(default=None, ge=0.0, lt=1.0)
    """share of the weights to remove, in [0, 1), or of a structure's parts; 0.5 when neither this nor a threshold is given"""
    threshold: float | None = Field(default=None, gt=0.0)
    """criterion "importance" only: weights with |w| / sum|w| below this go"""
    pattern: str = "unstructured"
    """"unstructured", N:M as in "2:4" (N of every M neighbours stay), or a structure: see `compress-tui list structures`"""
    scope: Literal["auto", "layer", "row"] = "auto"
    """who competes with whom in the unstructured pattern; auto is what the criterion's paper does"""
    allocation: str = "uniform"
    """how the global sparsity is split over the layers: see `compress-tui list allocations`"""
    shares: dict[str, float] = {}
    """sparsity of single matrices, by name, or blocks, by number; the others are moved so that the mean stays"""
    spread: float = Field(default=0.08, ge=0.0, lt=1.0)
    """owl: how far a block's sparsity may be from the mean"""
    outlier: float = Field(default=5.0, gt=0.0)
    """owl: a score is an outlier above this many times its block's mean"""
    proxy: str = "wanda"
    """atp, sensitivity, search: the criterion that prunes the models on trial, with the dense model's statistics"""
    trial_windows: int = Field(default=4, ge=1)
    """atp, sensitivity, search: calibration windows on which models are compared with the dense one"""
    levels: int = Field(default=5, ge=1)
    """sensitivity, search: steps that a sparsity may be from the mean, or outside the range that the search begins with"""
    level_step: float = Field(default=0.04, gt=0.0, lt=1.0)
    """sensitivity, search: size of such a step"""
    unit: Literal["block", "matrix"] = "block"
    """sensitivity, search: what is measured or moved as one"""
    generations: int = Field(default=60, ge=1)
    """search: rounds of mutation and selection"""
    offspring: int = Field(default=8, ge=1)
    """search: mutations tried each round"""
    statistics: Literal["sequential", "dense"] = "sequential"
    """inputs as the layers pruned before change them, or as the model at hand has them (collected once, then cached)"""
    damping: float = Field(default=0.01, gt=0.0)
    """solvers and compensation: added to the Gram matrix's diagonal, as a share of its mean"""
    block_size: int = Field(default=128, ge=1)
    """sparsegpt: columns whose mask is decided together"""
    iterations: int = Field(default=40, ge=1)
    """admm: rounds of least squares and projection, at most"""
    polish: int = Field(default=10, ge=0)
    """admm: conjugate-gradient steps on the weights that stay"""
    score: str = "auto"
    """structures: which parts go, see `compress-tui list scores`; auto is the structure's own"""
    multiple: int = Field(default=8, ge=1)
    """channels, hidden: what stays is a multiple of this"""
    compensate: bool = True
    """structures: refit the matrices that read the removed parts, by least squares on the calibration data"""

    @field_validator("criterion", "proxy")
    @classmethod
    def _known_criterion(cls, name: str) -> str:
        return CRITERIA.check(name)

    @field_validator("score")
    @classmethod
    def _known_score(cls, name: str) -> str:
        return name if name == "auto" else SCORES.check(name)

    @field_validator("allocation")
    @classmethod
    def _known_allocation(cls, name: str) -> str:
        return ALLOCATIONS.check(name)

    @field_validator("shares")
    @classmethod
    def _sparsities(cls, shares: dict[str, float]) -> dict[str, float]:
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"the share of {name!r} must be in [0, 1), not {share:g}")
        return shares

    @field_validator("pattern")
    @classmethod
    def _known_pattern(cls, pattern: str) -> str:
        found = N_OF_M.fullmatch(pattern)
        if pattern != "unstructured" and not found and pattern not in STRUCTURES.names():
            raise ValueError(f'must be "unstructured", N:M as in "2:4", or one of {", ".join(STRUCTURES.names())}')
        if found and not int(found[1]) < int(found[2]):
            raise ValueError("N:M keeps N of every M weights: N must be smaller than M")
        return pattern

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.threshold is not None and self.criterion != "importance":
            raise ValueError('threshold goes with criterion "importance" only')
        if self.threshold is not None and self.sparsity is not None:
            raise ValueError("give sparsity or threshold, not both")
        if self.structure and self.threshold is not None:
            raise ValueError(f"threshold does not go with pattern {self.pattern}, which removes whole parts")
        if self.n_of_m and self.threshold is not None:
            raise ValueError("threshold does not go with an N:M pattern")
        if self.n_of_m and self.sparsity not in (None, self.amount):
            raise ValueError(f"pattern {self.pattern} means sparsity {self.amount}, not {self.sparsity}")
        return self

    @property
    def structure(self) -> str | None:
        """The structured pattern, whose parts leave the model altogether; else None."""
        return self.pattern if self.pattern in STRUCTURES.names() else None

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """(N, M) of an N:M pattern, else None."""
        found = N_OF_M.fullmatch(self.pattern)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def amount(self) -> float:
        """The sparsity that the pattern and `sparsity` together mean."""
        if self.n_of_m:
            return 1 - self.n_of_m[0] / self.n_of_m[1]
        return 0.5 if self.sparsity is None else self.sparsity
