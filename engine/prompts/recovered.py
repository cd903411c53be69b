"""What of the accuracy that a model lost its prompts win back, on the test rows: of a prompt step and of a walk over levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine import events as ev
from engine import statistics
from engine.statistics import Regained
from engine.workspace import Workspace

Right = NDArray[np.bool_]
"""right or wrong on every test row, the same rows for all"""


def tell(
    workspace: Workspace, prompt: str, better: Right, base: Right, top: Right, same: Right | None, *, level: str = "",
    stage: str = "",
) -> Regained:  # fmt: skip
    """The share of the gap between `base` and `top`, the plain prompt on the model and on the dense one, that `better` makes
    good; beside it what the `same` prompt gains on the dense model, where it was tried there.
    """
    seed = workspace.profile.seed
    found = statistics.regained(better, base, top, seed)
    gain = None if same is None else statistics.compare(same, top, seed)
    control = (None, None, None) if gain is None else (gain.difference, gain.low, gain.high)
    workspace.emit(
        ev.Recovered(
            step=workspace.step, level=level, stage=stage, prompt=prompt, n=found.gap.n, value=found.value,
            low=found.low, high=found.high, gap=found.gap.difference, gap_low=found.gap.low, gap_high=found.gap.high,
            control=control[0], control_low=control[1], control_high=control[2],
        )
    )  # fmt: skip
    return found
