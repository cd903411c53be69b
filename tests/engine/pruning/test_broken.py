"""A criterion that goes wrong ends the step with what is wrong and where, and nothing that it made is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine.errors import EngineError
from engine.pruning import step
from engine.pruning.criterion import Criterion
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA


def test_weights_that_become_infinite_end_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Criterion(needs="nothing", solve=lambda weight_OI, *_: weight_OI / 0.0)
    monkeypatch.setattr(CRITERIA.load("magnitude"), "CRITERION", broken)
    space = workspace(tmp_path / "run", subject("llama"))
    with pytest.raises(EngineError, match="^pruning produced NaN or infinite weights$") as error:
        step.run(space, PruneOptions(use="prune", criterion="magnitude"))
    assert (error.value.exit_code, error.value.where) == (1, "model.layers.0.self_attn.q_proj.weight")
    assert error.value.hint == "raise the damping"
    assert not list(space.run.checkpoints.glob("*.safetensors"))
