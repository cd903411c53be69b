"""Error that is left after what stays has been refitted, a few parts at a time (ZipLM, arXiv 2302.04089).

With H the damped Gram matrix of the inputs and W what reads them, taking the columns p away costs tr(W_p (H⁻¹_pp)⁻¹ W_pᵀ).
The cheapest parts go, W and H⁻¹ are brought to the state without them, and the costs are looked at again: of two parts
that say the same, only one is cheap.

Shapes: P parts, C columns a part, O out, I = P * C in.
"""

from __future__ import annotations

import torch

from engine.pruning.evidence import Evidence
from engine.pruning.refit import factored

PATTERNS = {"channels", "heads"}
ROUNDS = 32


def score(evidence: Evidence) -> torch.Tensor:
    """What goes first has the lowest score; what stays, the cost [P] of taking it too, which is positive."""
    assert evidence.gram is not None
    assert evidence.reader is not None
    parts = len(evidence.weights)
    columns_PC = torch.arange(len(evidence.gram), device=evidence.gram.device).reshape(parts, -1)
    inverse_II = torch.cholesky_inverse(factored(evidence.gram, evidence.damping))
    reader_OI = evidence.reader.clone()
    goes = parts - evidence.count
    alive = torch.ones(parts, dtype=torch.bool, device=inverse_II.device)
    scores = torch.zeros(parts, device=inverse_II.device)
    for start in range(0, goes, max(1, -(-goes // ROUNDS))):
        size = min(max(1, -(-goes // ROUNDS)), goes - start)
        now = costs(inverse_II, reader_OI, columns_PC).masked_fill(~alive, torch.inf)
        chosen = now.argsort(stable=True)[:size]
        eliminate(inverse_II, reader_OI, columns_PC[chosen].flatten())
        scores[chosen] = torch.arange(start - goes, start - goes + size, device=scores.device).float()
        alive[chosen] = False
    return torch.where(alive, costs(inverse_II, reader_OI, columns_PC), scores)


def costs(inverse_II: torch.Tensor, reader_OI: torch.Tensor, columns_PC: torch.Tensor) -> torch.Tensor:
    """tr(W_p (H⁻¹_pp)⁻¹ W_pᵀ) of every part [P]."""
    blocks_PCC = inverse_II[columns_PC[:, :, None], columns_PC[:, None, :]]
    if columns_PC.shape[1] == 1:
        return reader_OI.square().sum(0) / blocks_PCC[:, 0, 0]
    reader_PCO = reader_OI.T[columns_PC]
    return (reader_PCO * torch.bmm(torch.linalg.inv(blocks_PCC), reader_PCO)).sum((1, 2))


def eliminate(inverse_II: torch.Tensor, reader_OI: torch.Tensor, gone: torch.Tensor) -> None:
    """Takes columns away, in place: what they did is spread over the others."""
    rows = inverse_II[gone]
    moved = torch.linalg.solve(rows[:, gone], rows)
    reader_OI -= reader_OI[:, gone] @ moved
    inverse_II -= rows.T @ moved
    reader_OI[:, gone] = 0
    inverse_II[gone], inverse_II[:, gone] = 0, 0
    inverse_II[gone, gone] = 1
