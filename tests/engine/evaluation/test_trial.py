"""A model on trial: the same answers as the whole model gives, also when only what changed is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import workspace

from engine import builtin
from engine.evaluation.trial import Trial
from engine.subject import Subject


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "gemma2", "mixtral"])
def test_the_answers_are_the_models(architecture: str, device: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    mine.module.to(device)
    space = workspace(tmp_path / "run", mine)
    trial = Trial.of(space, 3)
    for window in range(3):
        expected = mine.module(space.calibration_inputs()[window : window + 1].to(device)).logits[0]
        torch.testing.assert_close(trial.logits(0, window, False), expected, atol=1e-5, rtol=1e-4)


def test_computing_from_the_changed_block_is_the_same(tmp_path: Path) -> None:
    mine = subject("llama", num_hidden_layers=3)
    trial = Trial.of(workspace(tmp_path / "run", mine), 3)
    assert trial.divergence() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        next(mine.blocks()[1].parameters()).zero_()
        whole = trial.divergence(0)
        assert whole > 0.001
        assert trial.divergence(1) == whole
        assert trial.divergence(2) < 1e-5, "the states that enter block 2 are those of the dense model"
        assert trial.divergence(1, keep=True) == whole
        assert trial.divergence(2) == whole


def test_the_reference_is_the_dense_model_also_after_pruning(tmp_path: Path) -> None:
    mine, dense = subject("llama"), subject("llama")
    with torch.no_grad():
        next(mine.blocks()[0].parameters()).zero_()
    space = workspace(tmp_path / "run", mine)
    space.stage = "pruned"
    space.dense_subject = lambda: dense
    assert Trial.of(space, 2).divergence() > 0.001


def test_a_module_on_its_features(tmp_path: Path) -> None:
    module, features = builtin.linear(0)
    space = workspace(tmp_path / "run", subject("llama"))
    space.subject = Subject(module, "builtin:linear", "f", features=features)
    space._calibration = torch.from_numpy(features.x).float()
    trial = Trial.of(space, 4)
    assert trial.windows == 1
    with torch.no_grad():
        next(module.parameters()).zero_()
        assert trial.divergence() > 0.001
