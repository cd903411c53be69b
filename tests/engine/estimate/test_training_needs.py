"""What training a whole model is said to need: products as torch counts them, memory and disk by what the options ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject
from fixtures.sizes import SIZES
from fixtures.workspaces import workspace
from torch.utils.flop_counter import FlopCounterMode

from engine.calibration import Walk
from engine.data.options import CalibrationOptions
from engine.estimate import training
from engine.estimate.scene import Scene
from engine.estimate.sizes import Sizes
from engine.training.learning import Learning
from engine.training.losses import right_answers
from engine.training.material import material
from engine.training.options import DistillOptions, FinetuneOptions


def finetune(**changes: Any) -> FinetuneOptions:
    return FinetuneOptions.model_validate({"use": "finetune", "compute": "float32", **changes})


def distill(**changes: Any) -> DistillOptions:
    return DistillOptions.model_validate({"use": "distill", "compute": "float32", **changes})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(workspace(tmp_path / "run", subject("llama")), SIZES)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_products_of_a_step_are_those_that_torch_counts(tmp_path: Path, name: str, checkpointing: bool) -> None:
    made = workspace(tmp_path / "run", subject(name))
    options = finetune(steps=1, batch=4, held_out=1, gradient_checkpointing=checkpointing)
    found = material(made, options)
    made.subject.module.requires_grad_(True)
    learning = Learning.of(made.subject, found, right_answers, options)
    with FlopCounterMode(display=False) as counter:
        learning.held_out(1)
        torch.autograd.backward(learning.part([0, 1, 2, 3], found.predicted([0, 1, 2, 3])))
    matrices = Walk(made.subject, torch.zeros(1, 8, dtype=torch.long), 1, torch.float32).matrices
    sizes = Sizes.of(made.subject, matrices, CalibrationOptions(samples=6, length=40, chunk=4, compute="float32"))
    needs = training.training(Scene(made, sizes), options)
    assert needs.work.products["float32"] == pytest.approx(counter.get_total_flops(), rel=0.2)


def test_memory_falls_with_what_goes_through_at_a_time_and_what_is_kept(scene: Scene) -> None:
    whole, one, checkpointed = (
        training.training(scene, options).memory
        for options in (finetune(), finetune(micro_batch=1), finetune(gradient_checkpointing=True))
    )
    assert 3 * 4 * SIZES.parameters < one < whole
    assert 3 * 4 * SIZES.parameters < checkpointed < whole


def test_a_state_is_on_disk_only_where_one_is_saved(scene: Scene) -> None:
    few, many = (training.training(scene, finetune(steps=40, save_every=every)).scratch for every in (50, 10))
    assert (few, many) == (4 * SIZES.parameters, 16 * SIZES.parameters)


def test_a_teacher_whose_answers_are_kept_is_not_beside_the_training(scene: Scene) -> None:
    kept, loaded, alone = (
        training.distill(scene, distill()), training.distill(scene, distill(cache=False)), training.training(scene, distill())
    )  # fmt: skip
    assert kept.memory == alone.memory
    assert loaded.memory > alone.memory + SIZES.loaded
    assert kept.cache == 100 * 4 * SIZES.length * 64 * 6
    assert loaded.cache == 0
    assert kept.work.products["float32"] > alone.work.products["float32"]


def test_features_are_counted_by_the_row(scene: Scene) -> None:
    rows = replace(scene, sizes=replace(SIZES, language=False, vocabulary=0, length=1))
    assert training.tokens(rows, finetune()) == 1


@pytest.mark.parametrize("cache", [True, False])
def test_processes_that_share_a_device_need_as_much_each(scene: Scene, cache: bool) -> None:
    one, options = training.distill(scene, distill(cache=cache)), distill(cache=cache)
    scene.workspace.profile = scene.workspace.profile.model_copy(update={"processes": 2})
    two = training.distill(scene, options)
    assert two.memory == pytest.approx(2 * one.memory + SIZES.loaded)
    assert two.cache == 2 * one.cache
    assert two.scratch == one.scratch, "the first alone writes"
    assert two.work.products["float32"] == pytest.approx(2 * one.work.products["float32"])
