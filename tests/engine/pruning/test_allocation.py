"""Splitting a sparsity: the mean, the user's own shares, and each allocation's rule against its formula or brute force."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from fixtures.models import VOCABULARY, subject
from fixtures.workspaces import workspace
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine import runs
from engine.calibration import Walk
from engine.errors import UsageError
from engine.evaluation.trial import Trial
from engine.grams import Grams
from engine.matrices import Matrix
from engine.pruning import allocation
from engine.pruning import step as pruning
from engine.pruning.allocation import Request
from engine.pruning.allocations import atp, owl, search, sensitivity
from engine.pruning.balance import balanced
from engine.pruning.levels import pruned
from engine.pruning.options import PruneOptions
from engine.workspace import Workspace

Requests = Callable[..., Request]
BLOCKS = 4


@pytest.fixture
def request_of(tmp_path: Path) -> Requests:
    """A request for a tiny model of four blocks, in a run of its own."""
    number = iter(range(100))

    def make(*, folder: str | None = None, seed: int = 5, **options: Any) -> Request:
        place = tmp_path / (folder or f"run-{next(number)}")
        space = workspace(place, subject("llama", num_hidden_layers=BLOCKS))
        space._calibration = torch.randint(0, VOCABULARY, (6, 32), generator=torch.Generator().manual_seed(seed))
        few = {"trial_windows": 4, "generations": 6, "offspring": 8, "levels": 3, "sparsity": 0.6, **options}
        return Request(space, Walk.over(space), PruneOptions(use="prune", **few))

    return make


def mean(shares: dict[str, float], sizes: dict[str, int]) -> float:
    return sum(share * sizes[name] for name, share in shares.items()) / sum(sizes.values())


# The mean


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.integers(1, 10**7)), min_size=1, max_size=20), st.floats(0, 0.999),
)  # fmt: skip
def test_balanced_keeps_the_mean_and_the_order(parts: list[tuple[float, int]], wanted: float) -> None:
    wishes = {str(i): wish for i, (wish, _) in enumerate(parts)}
    sizes = {str(i): size for i, (_, size) in enumerate(parts)}
    shares = balanced(wishes, sizes, wanted)
    assert mean(shares, sizes) == pytest.approx(wanted, abs=1e-9)
    assert all(0 <= share < 1 for share in shares.values())
    for a, b in itertools.combinations(wishes, 2):
        assert (wishes[a] <= wishes[b]) == (shares[a] <= shares[b]) or shares[a] == shares[b]


def test_balanced_wishes_that_fit_are_granted() -> None:
    assert balanced({"a": 0.4, "b": 0.6}, {"a": 10, "b": 10}, 0.5) == pytest.approx({"a": 0.4, "b": 0.6})


# The user's own shares


def test_own_shares_are_kept_and_the_rest_moves(request_of: Requests) -> None:
    request = request_of(shares={"1": 0.3})
    plan = allocation.make(request)
    for m in request.matrices:
        if m.block == 1:
            assert plan.shares[m.name] == 0.3
            assert plan.reasons[m.name] == "as asked"
        else:
            assert plan.shares[m.name] == pytest.approx(0.7)
    assert mean(plan.shares, request.sizes) == pytest.approx(0.6, abs=1e-12)


def test_a_matrix_goes_before_its_block(request_of: Requests) -> None:
    request = request_of()
    name = request.matrices[0].name
    request = request_of(shares={"0": 0.5, name: 0.2}, allocation="owl")
    plan = allocation.make(request)
    assert plan.shares[name] == 0.2
    assert all(plan.shares[m.name] == 0.5 for m in request.matrices if m.block == 0 and m.name != name)
    assert mean(plan.shares, request.sizes) == pytest.approx(0.6, abs=1e-12)
    assert len({plan.shares[m.name] for m in request.matrices if m.block > 0}) > 1, "the rest is still the allocation's"


def test_shares_for_every_block_may_be_rounded(request_of: Requests) -> None:
    request = request_of(shares={"0": 0.501, "1": 0.6, "2": 0.6, "3": 0.7})
    allocation.check(request.matrices, request.options)
    assert mean(allocation.make(request).shares, request.sizes) == pytest.approx(0.6, abs=1e-12)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"9": 0.5}, "no such matrix or block"),
        ({"0": 0.0, "1": 0.0, "2": 0.0}, "would need a sparsity of 2.4"),
        ({"0": 0.9, "1": 0.9, "2": 0.9}, "would need a sparsity of -0.3"),
        ({"0": 0.5, "1": 0.5, "2": 0.5, "3": 0.5}, "mean is 0.5000"),
    ],
)
def test_shares_that_cannot_be_are_refused(request_of: Requests, shares: dict[str, float], words: str) -> None:
    request = request_of(shares=shares)
    with pytest.raises(UsageError, match=words):
        allocation.check(request.matrices, request.options)


def test_a_share_is_a_sparsity() -> None:
    with pytest.raises(ValueError, match="must be in"):
        PruneOptions(use="prune", shares={"0": 1.0})


# OWL


def test_owl_follows_its_formula(request_of: Requests) -> None:
    """Planted outliers in one block: it stays densest, at S - λ at least; the spread is 2λ before the clamp."""
    request = request_of(allocation="owl", spread=0.1, outlier=5.0)
    with torch.no_grad():
        matrix = next(m for m in request.matrices if m.block == 2)
        matrix.weight[:2] *= 100
    grams = request.grams
    ratios = []
    for block in range(BLOCKS):
        scores = [m.weight.abs() * s.mean_squares.sqrt() for ms, s in grams.groups(block) for m in ms]
        flat = torch.cat([score.flatten() for score in scores])
        ratios.append(int((flat > 5 * flat.mean()).sum()) / flat.numel())
        assert owl.outlier_ratio(grams, block, 5.0) == pytest.approx(ratios[-1])
    shares = owl.allocate(request).shares
    by_block = [shares[next(m.name for m in request.matrices if m.block == b)] for b in range(BLOCKS)]
    assert sorted(range(BLOCKS), key=by_block.__getitem__) == sorted(range(BLOCKS), key=lambda b: -ratios[b])
    assert min(by_block) >= 0.5 - 1e-9
    assert max(by_block) <= 0.7 + 1e-9
    assert mean(shares, request.sizes) == pytest.approx(0.6, abs=1e-9)


# ATP


def test_atp_is_a_ramp_and_the_best_of_those_tried(request_of: Requests) -> None:
    request = request_of(allocation="atp")
    shares = atp.allocate(request).shares
    by_block = [shares[next(m.name for m in request.matrices if m.block == b)] for b in range(BLOCKS)]
    steps = [b - a for a, b in itertools.pairwise(by_block)]
    assert steps == pytest.approx([steps[0]] * (BLOCKS - 1), abs=1e-9)
    assert steps[0] >= 0
    trial, grams, pruner = request.trial, request.grams, request.pruner

    def loss(shares: dict[str, float]) -> float:
        with pruned(request.walk, grams, pruner, shares):
            return trial.divergence()

    assert loss(shares) <= loss(dict.fromkeys(shares, 0.6))


# Sensitivity


def costs_of(found: dict[str, float], ratios: list[float], costs: dict[str, list[float]]) -> float:
    """The sum of costs, linear between the ratios."""
    total = 0.0
    for name, share in found.items():
        i = max(k for k in range(len(ratios) - 1) if ratios[k] <= share + 1e-12)
        part = (share - ratios[i]) / (ratios[i + 1] - ratios[i])
        total += costs[name][i] * (1 - part) + costs[name][i + 1] * part
    return total


@given(st.integers(2, 3), st.integers(0, 10**6))
def test_the_cheapest_split_equals_brute_force(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ratios = [0.3, 0.4, 0.5, 0.6, 0.7]
    names = [f"m{i}" for i in range(count)]
    sizes = {name: int(torch.randint(1, 6, (1,), generator=generator)) for name in names}
    costs: dict[str, list[float]] = {}
    for name in names:  # convex: increments that grow
        costs[name] = torch.rand(5, generator=generator).sort().values.cumsum(0).tolist()
    found = sensitivity.cheapest(ratios, costs, sizes, 0.5)
    assert mean(found, sizes) == pytest.approx(0.5)
    best = costs_of(found, ratios, costs)
    fine = [0.3 + 0.01 * k for k in range(41)]
    total = sum(sizes.values()) * 0.5
    for others in itertools.product(fine, repeat=count - 1):
        last = (total - sum(s * sizes[n] for s, n in zip(others, names, strict=False))) / sizes[names[-1]]
        if 0.3 <= last <= 0.7:
            assert best <= costs_of(dict(zip(names, [*others, last], strict=True)), ratios, costs) + 1e-9


def test_what_is_not_convex_is_made_so() -> None:
    xs, ys = [0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 3.0, 2.0, 5.0, 4.0]
    corners = sensitivity.hull(xs, ys)
    assert (corners[0], corners[-1]) == (0, 4)
    slopes = [(ys[b] - ys[a]) / (xs[b] - xs[a]) for a, b in itertools.pairwise(corners)]
    assert slopes == sorted(slopes)
    for i, x in enumerate(xs):
        a, b = next((a, b) for a, b in itertools.pairwise(corners) if xs[a] <= x <= xs[b])
        assert ys[i] >= ys[a] + (ys[b] - ys[a]) * (x - xs[a]) / (xs[b] - xs[a]) - 1e-12


# Search


@pytest.mark.parametrize("unit", ["block", "matrix"])
def test_the_search_is_never_worse_than_uniform_on_its_own_objective(request_of: Requests, unit: str) -> None:
    request = request_of(allocation="search", unit=unit)
    trial, grams, pruner = request.trial, request.grams, request.pruner
    losses = []
    for shares in (search.allocate(request).shares, dict.fromkeys(request.sizes, 0.6)):
        with pruned(request.walk, grams, pruner, shares):
            losses.append(trial.divergence())
    assert losses[0] < losses[1]


def test_the_search_looks_at_the_dense_model_once(request_of: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {kind: Mock(side_effect=kind.of) for kind in (Trial, Grams)}
    for kind, of in made.items():
        monkeypatch.setattr(kind, "of", of)
    search.allocate(request_of(allocation="search", generations=1))
    assert [of.call_count for of in made.values()] == [1, 1]


@pytest.mark.parametrize("name", ["atp", "sensitivity", "search"])
def test_a_trial_is_held_while_plans_are_made_and_not_before_or_after(
    name: str, request_of: Requests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[weakref.ref[Trial]] = []
    held: dict[str, set[int]] = {}
    of = Trial.of

    def noted(workspace: Workspace, windows: int) -> Trial:
        trial = of(workspace, windows)
        made.append(weakref.ref(trial))
        return trial

    def emit(event: ev.Event) -> None:
        said = event.label if isinstance(event, ev.Progress) else type(event).__name__
        held.setdefault(said, set()).add(sum(trial() is not None for trial in made))

    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))  # so that the statistics are collected here
    monkeypatch.setattr(Trial, "of", noted)
    request = request_of(allocation=name, generations=1)
    request.workspace.emit = emit
    pruning.run(request.workspace, request.options)
    assert len(made) == 1
    assert 1 in held["judging ramps" if name == "atp" else "losses"]
    assert held["collecting statistics"] == held["LayerPruned"] == held["pruning"] == {0}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("block", [0, 1])
def test_the_search_finds_a_planted_dead_block(request_of: Requests, block: int, seed: int) -> None:
    """A block whose outputs are zero costs nothing: it takes all the sparsity it may have, wherever the search begins."""
    request = request_of(allocation="search", generations=30, levels=2, seed=seed)
    with torch.no_grad():
        for m in request.matrices:
            if m.block == block and ("o_proj" in m.name or "down_proj" in m.name):
                m.weight.zero_()
    plan = search.allocate(request)
    dead = [plan.shares[m.name] for m in request.matrices if m.block == block]
    others = [plan.shares[m.name] for m in request.matrices if m.block != block]
    base = runs.read_json(request.workspace.checkpoint("search.json"))["base"]["shares"]
    step = request.options.level_step
    ceiling = search.bounds(base, 2 * step)[1]
    assert min(dead) > ceiling - step, "no further step fits"
    assert min(dead) > max(others) - step


@given(
    st.lists(st.floats(0, 0.99), min_size=2, max_size=6), st.floats(0.01, 0.3), st.integers(1, 6)
)  # fmt: skip
def test_every_unit_reaches_the_same_bounds(shares: list[float], step: float, reach: int) -> None:
    """Up to the last step that fits; and the levels of a ladder are where the positions say."""
    parts = [[Matrix(str(i), i, torch.zeros(1, 1), 0)] for i in range(len(shares))]
    named = dict(zip(map(str, range(len(shares))), shares, strict=True))
    low, high = search.bounds(named, reach * step)
    assert 0 <= low <= min(shares) <= max(shares) <= high <= 0.99
    limits = [search.limit(named, part, step, (low, high)) for part in parts]
    made = search.ladders(named, parts, limits, step)
    assert len({len(ladder) for ladder in made.values()}) == 1
    for share, (down, up), ladder in zip(shares, limits, made.values(), strict=True):
        assert low - 1e-9 <= share + step * down < low + step
        assert high - step < share + step * up <= high + 1e-9
        assert ladder[-down] == share
        assert ladder[up - down] == max(ladder) == ladder[-1]


@pytest.mark.parametrize("proxy", ["wanda", "sparsegpt"])  # levels as masks in memory, and in files
def test_a_killed_search_goes_on_to_the_same_end(request_of: Requests, proxy: str) -> None:
    whole = search.allocate(request_of(folder="whole", generations=5, proxy=proxy)).shares
    killed = request_of(folder="killed", generations=5, proxy=proxy)
    stop_at(killed.workspace, 3)
    with pytest.raises(KeyboardInterrupt):
        search.allocate(killed)
    assert runs.read_json(killed.workspace.checkpoint("search.json"))["generation"] == 3
    assert search.allocate(request_of(folder="killed", generations=5, proxy=proxy)).shares == whole


def stop_at(space: Workspace, generation: int) -> None:
    def progress(label: str, done: int, total: int, unit: str) -> None:
        if unit == "generations" and done == generation:
            raise KeyboardInterrupt

    space.progress = progress


def test_more_windows_the_fewer_are_left() -> None:
    assert search.stages(8, 16) == [(2, 4), (8, 1)]
    assert search.stages(1, 16) == [(1, 1)]
    assert search.stages(4, 1) == [(4, 1)]
