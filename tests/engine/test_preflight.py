"""What is refused before the first long work, and what later steps on another model are left to refuse for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine.calibration import Walk
from engine.errors import UsageError
from engine.preflight import check_pruning
from engine.pruning import step, structured
from engine.pruning.options import PruneOptions
from engine.workspace import Workspace


def prune(**options: Any) -> PruneOptions:
    return PruneOptions(use="prune", **options)


def space_of(folder: Path, *steps: PruneOptions) -> Workspace:
    """48 wide, 64 channels."""
    space = workspace(folder / "run", subject("llama", hidden_size=48))
    space.profile = space.profile.model_copy(update={"step": list(steps)})
    return space


CHANNELS = prune(pattern="channels", sparsity=0.25)  # 48 of 64 stay
THIRDS = prune(pattern="2:3")  # fits 48 columns and not 64


def test_a_step_after_a_structured_one_meets_another_model(tmp_path: Path) -> None:
    space = space_of(tmp_path, CHANNELS, THIRDS)
    check_pruning(space, Walk.over(space).matrices)
    structured.run(space, CHANNELS)
    step.check_options(Walk.over(space).matrices, THIRDS)


@pytest.mark.parametrize("steps", [(THIRDS, CHANNELS), (prune(), THIRDS)])
def test_a_step_before_it_is_refused_early(tmp_path: Path, steps: tuple[PruneOptions, ...]) -> None:
    space = space_of(tmp_path, *steps)
    with pytest.raises(UsageError, match="3 does not divide the width 64"):
        check_pruning(space, Walk.over(space).matrices)
