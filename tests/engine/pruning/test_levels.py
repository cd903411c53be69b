"""Matrices at a ladder of levels: the same weights as pruning to each level gives, for scores and for solvers."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import workspace

from engine.calibration import Walk
from engine.grams import Grams
from engine.pruning.criteria import sparsegpt
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


def test_what_depends_on_an_input_alone_is_computed_once_for_all_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factored = Mock(side_effect=sparsegpt.inverse_factor)
    monkeypatch.setattr(sparsegpt, "inverse_factor", factored)
    space = workspace(tmp_path / "run", subject("llama"))
    walk = Walk.over(space)
    grams, criterion = Grams.of(space, walk), sparsegpt.CRITERION
    pruner = Pruner(criterion, Settings(), criterion.scope, 0)

    def made() -> Levels:
        return Levels.of(space, walk, grams, pruner, {m.name: RATIOS for m in walk.matrices}, tmp_path / "levels")

    levels = made()
    groups = {(m.block, m.group) for m in walk.matrices}
    assert factored.call_count == len(groups)
    next((tmp_path / "levels").iterdir()).unlink()
    made()
    assert factored.call_count == len(groups) + 1, "files of an earlier process are kept"
    levels.put(walk.matrices[0], 2)
    assert float((walk.matrices[0].weight == 0).float().mean()) == pytest.approx(0.6, abs=1e-3)


def test_only_the_statistics_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = workspace(tmp_path / "run", subject("llama"))
    walk = Walk.over(space)
    grams, criterion = Grams.of(space, walk), CRITERIA.load("wanda").CRITERION
    read = Mock(side_effect=grams.statistics)
    monkeypatch.setattr(Grams, "statistics", lambda self, matrix: read(matrix))
    down = next(m for m in walk.of_block(0) if "down_proj" in m.name)
    assert list(Pruner(criterion, Settings(), criterion.scope, 0).block(grams, 0, {down.name: 0.5})) == [down.name]
    assert [call.args[0].name for call in read.call_args_list] == [down.name]
