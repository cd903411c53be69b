"""Matrices at a ladder of levels: the same weights as pruning to each level gives, for scores and for solvers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import workspace

from engine.calibration import Walk
from engine.grams import Grams
from engine.pruning.criterion import Criterion, Settings
from engine.pruning.levels import Levels, Pruner, pruned
from engine.registry import CRITERIA

RATIOS = [0.2, 0.5, 0.6]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", CRITERIA.names())
def test_every_level_is_what_pruning_gives(name: str, architecture: str, device: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    mine.module.to(device)
    with torch.no_grad():  # zeros that were there before, and scores that are equal
        for parameter in mine.module.parameters():
            parameter[torch.rand(parameter.shape) < 0.1] = 0
    before = {key: value.clone() for key, value in mine.module.state_dict().items()}
    space = workspace(tmp_path / "run", mine)
    walk = Walk.over(space)
    grams, criterion = Grams.of(space, walk), CRITERIA.load(name).CRITERION
    assert isinstance(criterion, Criterion)
    pruner = Pruner(criterion, Settings(), criterion.scope, 0)
    ladders = {m.name: RATIOS for m in walk.matrices}
    levels = Levels.of(space, walk, grams, pruner, ladders, tmp_path / "levels")
    for level, ratio in enumerate(RATIOS):
        expected = [pruner.block(grams, b, {m.name: ratio for m in walk.of_block(b)}) for b in range(walk.blocks())]
        for matrix in walk.matrices:
            levels.put(matrix, level)
            assert torch.equal(matrix.weight, expected[matrix.block][matrix.name])
        levels.leave()
    with pruned(walk, grams, pruner, {walk.matrices[0].name: 0.5}):
        assert (walk.matrices[0].weight == 0).float().mean() >= 0.49
        assert torch.equal(walk.matrices[1].weight, levels.dense[walk.matrices[1].name])
    levels.remove()
    assert not (tmp_path / "levels").exists()
    assert all(torch.equal(value, before[key]) for key, value in mine.module.state_dict().items())
