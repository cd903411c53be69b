"""What allocations and the sensitivity step try before anything is changed: memory, disk, time and the second model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from estimate.test_needs import RATES, SIZES
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine.estimate import parts, planning, steps
from engine.estimate.needs import Needs
from engine.estimate.scene import Scene
from engine.estimate.steps import prune
from engine.matrices import Matrix
from engine.pruning.allocations import atp, search
from engine.pruning.options import PruneOptions
from engine.sensitivity import measure
from engine.sensitivity.options import SensitivityOptions

LARGE = replace(SIZES, groups=(((320, 320), (160, 320)), ((640, 320),), ((320, 640),)) * 2)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(workspace(tmp_path / "run", subject("llama")), LARGE)


def needs(scene: Scene, allocation: str, **changes: Any) -> Needs:
    return prune(scene, PruneOptions(use="prune", allocation=allocation, **changes))


def seconds(found: Needs) -> float:
    return found.work.seconds(RATES)


def test_what_tries_more_takes_longer(scene: Scene) -> None:
    found = [needs(scene, name) for name in ("uniform", "owl", "atp", "search")]
    assert [seconds(n) for n in found] == sorted({seconds(n) for n in found})
    assert seconds(needs(scene, "sensitivity")) > seconds(needs(scene, "owl"))
    assert found[0].cache == 0 < found[1].cache == found[2].cache == found[3].cache


@pytest.mark.parametrize(
    ("allocation", "option", "more"),
    [("atp", "trial_windows", 8), ("sensitivity", "trial_windows", 8), ("search", "trial_windows", 8),
     ("sensitivity", "levels", 10), ("search", "levels", 10), ("search", "generations", 600), ("search", "offspring", 64),
     ("sensitivity", "unit", "matrix")],
)  # fmt: skip
def test_more_tries_take_longer(scene: Scene, allocation: str, option: str, more: Any) -> None:
    assert seconds(needs(scene, allocation, **{option: more})) > seconds(needs(scene, allocation))


def test_the_matrices_as_they_were_are_held(scene: Scene) -> None:
    clone = LARGE.matrix_weights * LARGE.number
    for allocation in ("atp", "search"):
        assert needs(scene, allocation).memory > clone
    assert needs(scene, "search").memory > needs(scene, "atp").memory + LARGE.matrix_weights / 2


def test_a_solvers_levels_are_written_and_given_back(scene: Scene) -> None:
    levels = 2 * 5 + 1 + 10  # five steps of 0.04 each way from plans that reach from 0.3 to 0.7
    by_score, by_solver = (needs(scene, "search", proxy=name) for name in ("wanda", "admm"))
    assert by_score.scratch == 0
    assert by_solver.scratch == levels * LARGE.matrix_weights * LARGE.number
    assert by_solver.disk == by_score.disk == needs(scene, "uniform").disk
    assert (
        needs(scene, "search", proxy="admm", levels=1).scratch == (2 * 1 + 1 + 10) * LARGE.matrix_weights * LARGE.number
    )
    both = by_solver.then(needs(scene, "search", proxy="admm", levels=1))
    assert (both.disk, both.scratch) == (2 * by_solver.disk, by_solver.scratch)


@pytest.mark.parametrize("levels", [1, 3, 10])
@pytest.mark.parametrize(("sparsity", "step"), [(0.1, 0.04), (0.5, 0.04), (0.6, 0.05), (0.95, 0.02)])
def test_levels_are_those_of_a_search_from_the_widest_plan(sparsity: float, step: float, levels: int) -> None:
    options = PruneOptions(use="prune", sparsity=sparsity, level_step=step, levels=levels)
    reach = max(atp.reach_at(sparsity), step * levels)
    widest = {"a": max(sparsity - reach, 0.0), "b": min(sparsity + reach, 0.99)}
    units = [[Matrix(name, block, torch.zeros(1, 1), 0)] for block, name in enumerate(widest)]
    limits = [search.limit(widest, unit, step, search.bounds(widest, step * levels)) for unit in units]
    made = {len(ladder) for ladder in search.ladders(widest, units, limits, step).values()}
    assert made <= {
        planning.level_count(options),
        planning.level_count(options) - 1,
    }  # a unit's own steps may not fit in


def test_a_search_makes_one_trial_and_holds_it(scene: Scene) -> None:
    heavy = replace(scene, sizes=replace(LARGE, parameters=10**9))
    loaded = [
        seconds(needs(replace(heavy, changed=True), name)) - seconds(needs(heavy, name)) for name in ("atp", "search")
    ]
    assert loaded[0] == pytest.approx(loaded[1])
    options = PruneOptions(use="prune", allocation="search")
    levels = planning.pruned_once(LARGE, options).memory + LARGE.matrix_weights * (LARGE.number + 1)
    assert planning.planning(scene, options).memory == planning.trial_bytes(LARGE, options.trial_windows) + levels


SENSITIVITY = SensitivityOptions(use="sensitivity")


@pytest.mark.parametrize(
    "of",
    [
        lambda scene: needs(scene, "atp"),
        lambda scene: needs(scene, "search"),
        lambda scene: steps.of_step(scene, SENSITIVITY),
    ],
)
def test_after_a_change_the_dense_model_is_loaded_beside(scene: Scene, of: Callable[[Scene], Needs]) -> None:
    heavy = replace(scene, sizes=replace(LARGE, parameters=10**9))
    assert of(replace(heavy, changed=True)).memory > of(heavy).memory + 0.9 * heavy.sizes.loaded


def test_sensitivity_counts_its_tries_and_its_statistics(scene: Scene) -> None:
    found = steps.of_step(scene, SENSITIVITY)
    assert found.cache == parts.statistics_bytes(LARGE)
    for option, more in (("windows", 8), ("ratios", [0.1 * k for k in range(1, 10)]), ("unit", "matrix")):
        assert seconds(steps.of_step(scene, SENSITIVITY.model_copy(update={option: more}))) > seconds(found)
    for option, less in (("unit", "none"), ("heads", False)):
        assert seconds(steps.of_step(scene, SENSITIVITY.model_copy(update={option: less}))) < seconds(found)
    assert measure.head_groups(scene.workspace.subject.module.config) == 2


def test_statistics_that_a_step_has_left_are_not_counted_again(scene: Scene) -> None:
    after = steps.after_step(scene, SENSITIVITY)
    assert needs(after, "owl").cache == 0
    assert needs(after, "uniform", statistics="dense").cache == 0
    changed = steps.after_step(after, PruneOptions(use="prune"))
    assert changed.changed
    assert needs(changed, "owl").cache > 0
