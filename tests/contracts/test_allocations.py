"""Laws of every registered allocation: a new file in engine/pruning/allocations is tested here without further edits."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import workspace

from engine import events as ev
from engine.calibration import Walk
from engine.pruning import allocation
from engine.pruning import step as pruning
from engine.pruning.allocation import Plan, Request
from engine.pruning.options import PruneOptions
from engine.registry import ALLOCATIONS, CRITERIA
from engine.subject import Subject

NAMES = ALLOCATIONS.names()


def options(name: str, sparsity: float = 0.5, **more: Any) -> PruneOptions:
    few = {"trial_windows": 2, "generations": 3, "offspring": 4, "levels": 3, **more}
    return PruneOptions(use="prune", allocation=name, sparsity=sparsity, **few)


def model(architecture: str = "llama", blocks: int = 4) -> Subject:
    layers = {"gpt2": "n_layer"}.get(architecture, "num_hidden_layers")
    return subject(architecture, **{layers: blocks})


def planned(name: str, folder: Path, mine: Subject | None = None, **more: Any) -> tuple[Plan, Walk]:
    mine = mine or model()
    space = workspace(folder, mine)
    walk = Walk.over(space)
    return allocation.make(Request(space, walk, options(name, **more))), walk


def zeros(plan: Plan, walk: Walk) -> int:
    """What the plan removes, each matrix by its own rounding."""
    return sum(round(plan.shares[m.name] * m.weight.numel()) for m in walk.matrices)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.95, 0.995])
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_exact_and_every_share_possible(name: str, sparsity: float, tmp_path: Path) -> None:
    plan, walk = planned(name, tmp_path / "run", sparsity=sparsity)
    total = sum(m.weight.numel() for m in walk.matrices)
    assert list(plan.shares) == [m.name for m in walk.matrices]
    assert all(0 <= share < 1 for share in plan.shares.values())
    assert abs(zeros(plan, walk) - round(sparsity * total)) <= len(walk.matrices)
    assert plan.reasons.keys() <= plan.shares.keys()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ["gpt2", "mixtral"])
@pytest.mark.parametrize("unit", ["block", "matrix"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"uniform"}))
def test_any_architecture_on_any_device(name: str, unit: str, architecture: str, device: str, tmp_path: Path) -> None:
    mine = model(architecture)
    mine.module.to(device)
    plan, walk = planned(name, tmp_path / "run", mine, unit=unit)
    total = sum(m.weight.numel() for m in walk.matrices)
    assert abs(zeros(plan, walk) - round(0.5 * total)) <= len(walk.matrices)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_plan_twice_and_the_model_is_left_alone(name: str, tmp_path: Path) -> None:
    mine = model()
    before = {key: value.clone() for key, value in mine.module.state_dict().items()}
    first, _ = planned(name, tmp_path / "one", mine)
    assert all(torch.equal(value, before[key]) for key, value in mine.module.state_dict().items())
    second, _ = planned(name, tmp_path / "two")
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_resume_takes_the_plan_that_was_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[ev.Event] = []
    space = workspace(tmp_path / "run", model(), told=told)
    chosen = options(name)
    first = allocation.plan(allocation.Request(space, Walk.over(space), chosen))

    def gone(name: str) -> ModuleType:
        raise AssertionError("planned again")

    monkeypatch.setattr(ALLOCATIONS.__class__, "load", lambda self, name: gone(name))
    again = workspace(tmp_path / "run", model(), told=told)
    assert allocation.plan(allocation.Request(again, Walk.over(again), chosen)) == first
    plans = [event for event in told if isinstance(event, ev.SparsityPlanned)]
    assert [plan.shares for plan in plans] == [first.shares] * 2
    assert {plan.allocation for plan in plans} == {name}


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("name", NAMES)
def test_the_step_prunes_to_the_plan(name: str, criterion: str, tmp_path: Path) -> None:
    told: list[ev.Event] = []
    space = workspace(tmp_path / "run", model(), told=told)
    summary = pruning.run(space, options(name, criterion=criterion, proxy=criterion, scope="layer"))
    (plan,) = [event for event in told if isinstance(event, ev.SparsityPlanned)]
    layers = [event for event in told if isinstance(event, ev.LayerPruned)]
    assert told.index(plan) < told.index(layers[0]), "the plan is told before anything is changed"
    for layer in layers:
        assert layer.sparsity == pytest.approx(plan.shares[layer.layer], abs=1 / (layer.shape[0] * layer.shape[1]))
    assert summary["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert not list(space.run.checkpoints.glob("*levels*")), "what the search tried is cleared away"


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"uniform"}))
def test_patterns_that_fix_the_sparsity_are_refused(name: str, tmp_path: Path) -> None:
    walk = Walk.over(workspace(tmp_path / "run", model()))
    fixed = PruneOptions(use="prune", allocation=name, pattern="2:4")
    with pytest.raises(ValueError, match="nothing is left to allocate"):
        pruning.check_options(walk.matrices, fixed)


@pytest.mark.parametrize("proxy", CRITERIA.names())
def test_any_criterion_may_prune_the_models_on_trial(proxy: str, tmp_path: Path) -> None:
    plan, walk = planned("search", tmp_path / "run", proxy=proxy, generations=1, offspring=2, levels=1)
    total = sum(m.weight.numel() for m in walk.matrices)
    assert abs(zeros(plan, walk) - round(0.5 * total)) <= len(walk.matrices)
