"""Every matrix gets the global sparsity."""

from __future__ import annotations

from engine.matrices import Matrix


def allocate(matrices: list[Matrix], sparsity: float) -> dict[str, float]:
    """{matrix name: sparsity}, whose mean weighted by size is `sparsity`."""
    return {matrix.name: sparsity for matrix in matrices}
