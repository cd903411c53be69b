"""Every matrix gets the global sparsity."""

from __future__ import annotations

from engine.pruning.allocation import Plan, Request


def allocate(request: Request) -> Plan:
    """The same for all."""
    return Plan({m.name: request.sparsity for m in request.matrices})
