"""Moving masks: every method's law after every optimizer step, over shapes and patterns; schedules in closed form."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine.errors import EngineError
from engine.matrices import Matrix
from engine.pruning.masks import Pattern
from engine.training.loop import Loop, Pace
from engine.training.masking import Keeper, Mask
from engine.training.schedule import Schedule
from engine.training.sparsifying import Look, Moving, Part, StraightThrough, at, gradual, parts_of, rigl, threshold

STEPS, UNTIL = 12, 9
THRESHOLD = 0.01  # of matrices of up to 144 weights: some go, never all


class Problem:
    """Least squares through one weight; its layout is transposed, as Conv1D's is, where asked for."""

    def __init__(self, weight: nn.Parameter, shape: tuple[int, int]) -> None:
        random = torch.Generator().manual_seed(5)
        self.weight, self.shape = weight, shape
        self.x = torch.randn(16, shape[1], generator=random)
        self.y = self.x @ torch.randn(shape[1], shape[0], generator=random)
        self.train = list(range(12))

    def loss(self, rows: list[int]) -> torch.Tensor:
        weight = self.weight if tuple(self.weight.shape) == self.shape else self.weight.T
        return (self.x[rows] @ weight.T - self.y[rows]).square().sum()

    def part(self, rows: Any, whole: int) -> torch.Tensor:
        return self.loss(list(rows)) / whole

    def held_out(self, together: int) -> float:
        return float(self.loss(list(range(12, 16))).detach())

    def predicted(self, rows: Any) -> int:
        return len(rows)

    size = predicted


class Watching:
    """Asserts the law after every step; may stop there."""

    def __init__(self, law: Any, die_at: int = 0) -> None:
        self.law, self.die_at = law, die_at

    def stepped(self, done: int, loss: float, rate: float, per_second: float) -> None:
        self.law(done)
        if done == self.die_at:
            raise InterruptedError

    def checked(self, done: int, loss: float, best: bool) -> None:
        assert best <= (done >= UNTIL), "only weights that have their pattern count"

    def warn(self, message: str) -> None:
        raise AssertionError(message)


def begun(rows: int, width: int, transposed: bool) -> tuple[nn.Parameter, Part, list[Mask]]:
    random = torch.Generator().manual_seed(rows * 100 + width)
    weight = nn.Parameter(torch.randn(*((width, rows) if transposed else (rows, width)), generator=random))
    view = weight.data.T if transposed else weight.data
    (part,) = parts_of([Matrix("w", 0, view, 0)], [nn.Parameter(torch.zeros(3)), weight])
    assert torch.equal(part.view(weight.data), view)
    return (
        weight,
        Part(part.name, 0, 0, part.shape, part.stride, part.offset),
        [torch.ones_like(weight, dtype=torch.bool)],
    )


def trained(weight: nn.Parameter, part: Part, keeper: Keeper, law: Any, folder: Path, die_at: int = 0) -> None:
    problem = Problem(weight, part.shape)
    pace = Pace(Schedule(STEPS, 0.05, 0.1, 1e3), 4, 4, 2, 4, 99, 0.01, 0)
    watching = Watching(law, die_at)
    Loop([weight], problem, problem, keeper, pace, watching, folder / "state", folder / "best").run()


def keeper_for(method: str, pattern: Pattern, weight: nn.Parameter, part: Part, masks: list[Mask]) -> Keeper:
    if method == "straight_through":
        return StraightThrough([weight], masks, [part], pattern, UNTIL)
    if method == "rigl":
        keep = pattern.keep(part.view(weight.data).abs())
        part.view(masks[0]).copy_(keep)
        part.view(weight.data).mul_(keep)
    rules = {"gradual": gradual(pattern, {"w": 0.0}), "rigl": rigl(0.3), "threshold": threshold(THRESHOLD)}
    return Moving([weight], masks, [part], rules[method], 2, UNTIL)


SHAPES = st.tuples(st.integers(2, 9), st.integers(1, 4).map(lambda n: 4 * n), st.booleans())
PATTERNS = st.one_of(
    st.floats(0.0, 0.95).map(lambda s: Pattern(s)),
    st.sampled_from([(2, 4), (1, 4), (3, 4)]).map(lambda p: Pattern(1 - p[0] / p[1], p)),
)


@settings(max_examples=25)
@given(SHAPES, PATTERNS, st.sampled_from(["gradual", "rigl", "straight_through", "threshold"]))
def test_the_law_holds_after_every_step_and_the_last_sparsity_is_exact(
    shape: Any, pattern: Pattern, method: str
) -> None:
    if method == "rigl" and pattern.n_of_m:
        return
    weight, part, masks = begun(*shape)
    keeper = keeper_for(method, pattern, weight, part, masks)
    before: list[int] = []

    def law(done: int) -> None:
        mask = masks[0]
        assert mask is not None
        zeros = int((part.view(weight.data) == 0).sum())
        kept = int(mask.sum())
        wanted = int(pattern.keep(torch.rand(part.shape)).sum())
        if method != "straight_through" or done >= UNTIL:
            assert zeros >= mask.numel() - kept, "nothing outside the mask"
            assert not bool((weight.data[~mask] != 0).any())
        if method in ("gradual", "threshold"):
            assert not before or kept <= before[-1], "what went does not come back"
        if method == "threshold":
            assert kept > 0
        elif method == "rigl" or done >= UNTIL:
            assert kept == wanted
        before.append(kept)

    with tempfile.TemporaryDirectory() as folder:
        trained(weight, part, keeper, law, Path(folder))
    found = part.view(weight.data)
    law(STEPS)
    if pattern.n_of_m and method != "threshold":
        assert int((found != 0).reshape(-1, 4).sum(1).max()) <= pattern.n_of_m[0]


@pytest.mark.parametrize("method", ["gradual", "rigl", "straight_through", "threshold"])
@pytest.mark.parametrize("moment", [2, 5, 8, 9, 11])
def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path, method: str, moment: int) -> None:
    found = []
    for name, die_at in (("whole", 0), ("broken", moment)):
        folder = tmp_path / name
        folder.mkdir()
        for die in [die_at, 0] if die_at else [0]:
            weight, part, masks = begun(6, 8, False)
            keeper = keeper_for(method, Pattern(0.5), weight, part, masks)
            try:
                trained(weight, part, keeper, lambda done: None, folder, die)
            except InterruptedError:
                assert die
        found.append(weight.detach().clone())
    assert torch.equal(*found)


@pytest.mark.parametrize(("sparsity", "pattern"), [(0.0, (4, 4)), (0.3, (3, 4)), (0.5, (2, 4)), (0.9, (2, 4))])
def test_neighbours_go_as_the_sparsity_asks(sparsity: float, pattern: tuple[int, int]) -> None:
    assert at(Pattern(0.5, (2, 4)), sparsity).n_of_m == pattern


def look(weight: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, along: float) -> Look:
    return Look("w", weight, gradient, mask, along)


@given(st.floats(0.01, 1.0), st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_gradual_follows_the_cubic(along: float, first: float, last: float) -> None:
    weight = torch.arange(1.0, 401).reshape(20, 20)
    keep = gradual(Pattern(last), {"w": first})(look(weight, weight, torch.ones(20, 20, dtype=torch.bool), along))
    wanted = max(first, last + (first - last) * (1 - along) ** 3)
    assert int((~keep).sum()) == round(400 * wanted)
    assert float(weight[keep].min()) > float(weight[~keep].max() if (~keep).any() else 0)


def test_rigl_swaps_the_smallest_for_the_largest_gradients() -> None:
    weight = torch.tensor([[5.0, 1.0, 4.0, 0.0, 0.0, 0.0]])
    gradient = torch.tensor([[0.0, 0.1, 0.0, 3.0, 9.0, 5.0]])
    keep = rigl(0.67)(look(weight, gradient, weight != 0, 1e-9))
    assert keep.tolist() == [[True, False, False, False, True, True]]
    assert rigl(0.67)(look(weight, gradient, weight != 0, 1.0)).tolist() == (weight != 0).tolist()
    came_back = torch.tensor([[0.0, 99.0, 0.0, 3.0, 9.0, 5.0]])
    assert rigl(0.34)(look(weight, came_back, weight != 0, 1e-9)).tolist() == (weight != 0).tolist()


def test_the_threshold_rule_takes_what_is_less_important() -> None:
    weight, mask = torch.tensor([[5.0, 1.0, -4.0, 0.0]]), torch.tensor([[True, True, True, True]])
    assert threshold(0.2)(look(weight, weight, mask, 1.0)).tolist() == [[True, False, True, False]]
    with pytest.raises(EngineError, match="removes every weight"):
        threshold(0.6)(look(weight, weight, mask, 1.0))


def test_the_model_sees_the_largest_and_all_are_trained() -> None:
    weight, part, masks = begun(4, 8, False)
    keeper = StraightThrough([weight], masks, [part], Pattern(0.5), 5)
    everything = weight.detach().clone()
    keeper.before(0)
    assert int((weight == 0).sum()) == 16
    weight.grad = torch.ones_like(weight)
    keeper.gradients(0, torch.optim.AdamW([weight]))
    assert torch.equal(weight, everything)
    assert bool((weight.grad == 1).all())
    with keeper.shown():
        assert int((weight == 0).sum()) == 16
    assert torch.equal(weight, everything)
