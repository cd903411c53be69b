"""Laws of every step that trains a whole model; a new one is tested here without further edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject
from fixtures.workspaces import workspace
from torch import nn

from engine.estimate.steps import NEEDS
from engine.pruning.masks import keep_n_of_m
from engine.registry import STEPS
from engine.training.options import TrainingOptions
from engine.workspace import Workspace

TRAININGS = [name for name, step in STEPS.items() if issubclass(step.options_model(), TrainingOptions)]


def at_work(folder: Path, name: str, pattern: tuple[int, int]) -> tuple[Workspace, Any]:
    """A pruned model with its dense self beside it, and the step's options; a few optimizer steps each."""
    made = workspace(folder, subject("llama"))
    made.dense = subject("llama")
    made._calibration = torch.arange(240).reshape(6, 40) % 7 + 2  # what can be learned
    for _, weight in matrices(made):
        weight.data *= keep_n_of_m(weight.abs(), *pattern)
    options: dict[str, Any] = {
        "use": name,
        "steps": 8,
        "batch": 2,
        "held_out": 2,
        "check_every": 2,
        "compute": "float32",
    }
    options["learning_rate"] = 1e-3
    if name == "recover":
        options["method"] = "finetune"  # block-wise it has other options, and tests of its own
    return made, STEPS[name].options_model().model_validate(options)


def matrices(made: Workspace) -> list[tuple[str, nn.Parameter]]:
    named = made.subject.module.named_parameters()
    return [(name, weight) for name, weight in named if weight.ndim == 2 and ".layers." in name]


@pytest.mark.parametrize("pattern", [(2, 4), (1, 4), (4, 8)])
@pytest.mark.parametrize("name", TRAININGS)
def test_it_changes_weights_and_revives_none(tmp_path: Path, name: str, pattern: tuple[int, int]) -> None:
    made, options = at_work(tmp_path / "run", name, pattern)
    before = {key: weight.clone() for key, weight in matrices(made)}
    STEPS[name].run()(made, options)
    after = dict(matrices(made))
    assert any(not torch.equal(after[key], weight) for key, weight in before.items())
    for key, weight in before.items():
        assert not bool((after[key][weight == 0] != 0).any()), key
        assert bool(torch.isfinite(after[key]).all())
        assert not after[key].requires_grad


@pytest.mark.parametrize("name", TRAININGS)
def test_a_finished_one_is_put_back(tmp_path: Path, name: str) -> None:
    made, options = at_work(tmp_path / "run", name, (2, 4))
    STEPS[name].run()(made, options)
    trained = {key: weight.clone() for key, weight in made.subject.module.named_parameters()}
    again, options = at_work(tmp_path / "run", name, (2, 4))
    STEPS[name].restore()(again, options)
    for key, weight in again.subject.module.named_parameters():
        if name != "recover" or ".layers." in key:  # block by block: nothing else is changed
            assert torch.equal(weight, trained[key]), key


@pytest.mark.parametrize("name", TRAININGS)
def test_it_says_what_it_needs(name: str) -> None:
    assert name in NEEDS
    assert STEPS[name].stage
