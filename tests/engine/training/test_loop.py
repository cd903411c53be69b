"""The training loop on problems with known answers: order, accumulation, best weights, broken losses, exact resumption."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from fixtures.killing import Killed
from fixtures.models import DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine.errors import Cancelled, EngineError
from engine.pruning.masks import Pattern
from engine.training import kept
from engine.training.batches import batch_at
from engine.training.loop import Loop, Pace
from engine.training.masking import FixedMasks, mask_of
from engine.training.schedule import Schedule

PACE = Pace(Schedule(40, 0.1, 0.1, 1e3), batch=4, micro=4, check_every=5, save_every=7, patience=9,
            weight_decay=0.0, seed=3)  # fmt: skip


@dataclass
class Squares:
    """min ||x w - y||² over 24 rows, of which the last 6 are held out; half of the weights are pruned."""

    weight: nn.Parameter
    failing: Callable[[int], None] = lambda calls: None
    calls: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(24, 8, generator=generator)
        self.y = self.x @ torch.randn(8, 2, generator=generator)
        self.train = list(range(18))

    def part(self, indices: Sequence[int], whole: int) -> torch.Tensor:
        self.calls += 1
        self.failing(self.calls)
        return self._sum(list(indices)) / whole

    def held_out(self, together: int) -> float:
        return float(self._sum(list(range(18, 24))).detach()) / 6

    def predicted(self, indices: Sequence[int]) -> int:
        return len(indices)

    size = predicted

    def _sum(self, rows: list[int]) -> torch.Tensor:
        return (self.x[rows] @ self.weight.T - self.y[rows]).square().sum()


@dataclass
class Heard:
    steps: list[tuple[int, float]] = field(default_factory=list)
    checks: list[tuple[int, float, bool]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    die_at: int = 0
    how: BaseException = field(default_factory=Killed)

    def stepped(self, done: int, loss: float, rate: float, per_second: float) -> None:
        self.steps.append((done, loss))
        if done == self.die_at:
            raise self.how

    def checked(self, done: int, loss: float, best: bool) -> None:
        self.checks.append((done, loss, best))

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def loop(folder: Path, pace: Pace = PACE, heard: Heard | None = None) -> Loop:
    weight = nn.Parameter(torch.linspace(-1, 1, 16).reshape(2, 8) * (torch.arange(16).reshape(2, 8) % 3 > 0))
    folder.mkdir(exist_ok=True)
    problem = Squares(weight)
    keeper = FixedMasks([weight], [mask_of(weight.data)])
    return Loop([weight], problem, problem, keeper, pace, heard or Heard(), folder / "state", folder / "best")


def test_the_held_out_loss_falls_and_what_was_zero_is_zero(tmp_path: Path) -> None:
    made = loop(tmp_path)
    zeros = made.weights[0] == 0
    found = made.run()
    assert found.best < 0.8 * found.first
    assert torch.equal(made.weights[0] == 0, zeros)
    assert made.objective.held_out(4) == found.best, "the weights left are the best ones"
    assert found.best == min(loss for _, loss, _ in made.listener.checks)


@pytest.mark.parametrize("moment", [3, 7, 8, 15, 29, 40])
def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path, moment: int) -> None:
    whole, broken = loop(tmp_path / "a"), loop(tmp_path / "b", heard=Heard(die_at=moment))
    found = whole.run()
    with pytest.raises(Killed):
        broken.run()
    again = loop(tmp_path / "b")
    assert again.run() == found
    assert torch.equal(again.weights[0], whole.weights[0])
    assert again.listener.steps == whole.listener.steps[-len(again.listener.steps) :]
    assert len(again.listener.steps) == 40 - moment // 7 * 7


@pytest.mark.parametrize("moment", [3, 5, 8])
def test_a_cancelled_training_loses_no_step(tmp_path: Path, moment: int) -> None:
    whole, broken = loop(tmp_path / "a"), loop(tmp_path / "b", heard=Heard(die_at=moment, how=Cancelled("asked to")))
    found = whole.run()
    with pytest.raises(Cancelled):
        broken.run()
    again = loop(tmp_path / "b")
    assert again.run() == found
    assert torch.equal(again.weights[0], whole.weights[0])
    assert [done for done, _ in again.listener.steps] == list(range(moment + 1, 41))


@pytest.mark.parametrize("micro", [1, 3])
def test_parts_of_a_batch_add_up_to_it(tmp_path: Path, micro: int) -> None:
    one, other = loop(tmp_path / "a"), loop(tmp_path / "b", replace(PACE, micro=micro))
    one.run()
    other.run()
    torch.testing.assert_close(one.weights[0], other.weights[0], rtol=1e-4, atol=1e-5)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
def test_every_epoch_meets_every_item_once(count: int, batch: int, seed: int) -> None:
    train = [10 + i for i in range(count)]
    met = [item for step in range(3 * count) for item in batch_at(train, batch, seed, step)]
    assert all(sorted(met[i : i + count]) == train for i in range(0, 2 * count, count))
    assert len(batch_at(train, batch, seed, 0)) == min(batch, count)


def test_what_never_gets_better_keeps_the_old_weights(tmp_path: Path) -> None:
    made = loop(tmp_path, replace(PACE, schedule=Schedule(40, 50.0, 0.1, 1e9), patience=2))
    old = made.weights[0].detach().clone()
    found = made.run()
    assert (found.best_at, found.done) == (0, 10)
    assert torch.equal(made.weights[0], old)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_says_its_step_and_gives_the_best_weights_back(tmp_path: Path, value: float) -> None:
    made = loop(tmp_path)

    def fail(calls: int) -> None:
        if calls == 13:
            made.objective.x[:18] = value

    made.objective.failing = fail
    found = made.run()
    assert "not finite at step 13: the weights are those of step 10" in made.listener.warnings[0]
    assert found.done == 12
    assert made.objective.held_out(4) == found.best


def test_memory_that_runs_out_once_halves_what_goes_through_at_a_time(tmp_path: Path) -> None:
    short, plain = loop(tmp_path / "a"), loop(tmp_path / "b")

    def fail(calls: int) -> None:
        if calls == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    short.objective.failing = fail
    assert short.run().micro == 2
    plain.run()
    assert "2 instead of 4" in short.listener.warnings[0]
    torch.testing.assert_close(short.weights[0], plain.weights[0], rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_twice_is_an_error_with_the_step(tmp_path: Path) -> None:
    made = loop(tmp_path)

    def fail(calls: int) -> None:
        if calls > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")

    made.objective.failing = fail
    with pytest.raises(EngineError, match="memory ran out in step 3"):
        made.run()


def test_other_errors_pass(tmp_path: Path) -> None:
    made = loop(tmp_path)

    def fail(calls: int) -> None:
        raise RuntimeError("shapes differ")

    made.objective.failing = fail
    with pytest.raises(RuntimeError, match="shapes differ"):
        made.run()


def test_a_weight_that_comes_back_is_an_error(tmp_path: Path) -> None:
    made = loop(tmp_path)
    made.keeper.gradients = lambda step, optimizer: None
    with pytest.raises(EngineError, match="brought back"):
        made.run()


@dataclass
class Watching(Heard):
    """Asserts after every step that what was zero is zero."""

    weight: nn.Parameter = field(default_factory=lambda: nn.Parameter(torch.zeros(0)))
    zeros: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def stepped(self, done: int, loss: float, rate: float, per_second: float) -> None:
        super().stepped(done, loss, rate, per_second)
        assert not bool(self.weight[self.zeros].any())


PATTERNS = st.one_of(
    st.floats(0.0, 0.95).map(Pattern),
    st.sampled_from([(2, 4), (1, 4), (4, 8)]).map(lambda p: Pattern(1 - p[0] / p[1], p)),
)


@settings(max_examples=25)
@given(PATTERNS, st.integers(0, 99), st.sampled_from([0.0, 0.1]))
def test_the_pattern_holds_after_every_step(pattern: Pattern, seed: int, decay: float) -> None:
    """Whole-model trainings keep fixed masks; the shape is that of the problem."""
    with TemporaryDirectory() as folder:
        made = loop(Path(folder), replace(PACE, schedule=Schedule(12, 0.1, 0.1, 1e3), weight_decay=decay))
        weight = made.weights[0]
        weight.data.copy_(torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)))
        weight.data.mul_(pattern.keep(weight.detach().abs()))
        made.keeper = FixedMasks([weight], [mask_of(weight.data)])
        made.listener = Watching(weight=weight, zeros=weight.detach() == 0)
        made.run()
        assert len(made.listener.steps) == 12
        assert not bool(weight[made.listener.zeros].any())


def test_a_saved_state_of_other_weights_is_an_error(tmp_path: Path) -> None:
    broken = loop(tmp_path, heard=Heard(die_at=8))
    with pytest.raises(Killed):
        broken.run()
    other = loop(tmp_path)
    other.weights[0].data = torch.zeros(2, 6)
    with pytest.raises(EngineError, match=r"of other weights: \[2, 8\] instead of \[2, 6\]") as error:
        other.run()
    assert error.value.where == str(tmp_path / "state")
    assert error.value.hint


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_optimizer_keeps_everything_where_torch_does(fused: bool, device: str, tmp_path: Path) -> None:
    def stepped(optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        return dict(optimizer.state[weight])

    weight = nn.Parameter(torch.ones(2, 8, device=device))
    first, again = (torch.optim.AdamW([weight], fused=fused) for _ in range(2))
    began = stepped(first)
    kept.save(tmp_path / "state", [weight], first, about={})
    assert kept.restore(tmp_path / "state", [weight], again) is not None
    state = again.state[weight]
    assert {name: (t.device, t.dtype) for name, t in state.items()} == {
        n: (t.device, t.dtype) for n, t in began.items()
    }
    assert stepped(again)["step"] == 2
