"""The parts of an estimate: counted as torch counts them, and growing with what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fixtures.models import subject
from torch.utils.flop_counter import FlopCounterMode

from engine.calibration import Walk
from engine.data.options import CalibrationOptions
from engine.estimate import parts
from engine.estimate.machine import Rates
from engine.estimate.needs import CALL, EFFICIENCY, Needs, Work
from engine.estimate.sizes import Sizes
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA

SIZES = Sizes(
    language=True, dtype="float32", compute="bfloat16", parameters=10_000, blocks=(4000, 4000),
    groups=(((32, 32), (16, 32)), ((64, 32),), ((32, 64),)) * 2, hidden=32, widest=64, vocabulary=100, keys=16, active=1.0,
    samples=8, length=16, chunk=8,
)  # fmt: skip
RATES = Rates({"float32": 1e9, "bfloat16": 4e9}, 1e9)


def sizes_of(name: str) -> Sizes:
    made = subject(name)
    matrices = Walk(made, torch.zeros(1, 8, dtype=torch.long), 1, torch.float32).matrices
    return Sizes.of(made, matrices, CalibrationOptions(samples=6, length=16, chunk=4, compute="float32"))


def test_work_becomes_seconds() -> None:
    work = Work({"float32": 3e9, "bfloat16": 4e9}, traffic=2e9, calls=10, fixed=7)
    assert work.seconds(RATES) == pytest.approx(4 / EFFICIENCY + 2 + 10 * CALL + 7)
    assert (work + work).seconds(RATES) == pytest.approx((work * 2).seconds(RATES))


def test_memory_is_given_back_and_disk_is_not() -> None:
    both = Needs(5, disk=1, cache=2).then(Needs(3, disk=10)).beside(100)
    assert (both.memory, both.disk, both.cache) == (105, 11, 2)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt_neox", "opt", "gemma", "mixtral", "olmoe"])
def test_products_of_a_forward_are_those_that_torch_counts(name: str) -> None:
    count, length = 4, 16
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subject(name).module(torch.arange(count * length).reshape(count, length))
    mine = parts.forward(sizes_of(name), count * length, length, "float32", count * length)
    assert mine.products["float32"] == pytest.approx(counter.get_total_flops(), rel=0.15)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma", "mixtral"])
def test_sizes_are_those_of_the_model(name: str) -> None:
    made, sizes = subject(name), sizes_of(name)
    with torch.no_grad():
        cache = made.module(torch.zeros(1, 10, dtype=torch.long), use_cache=True).past_key_values
    keys = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert sizes.keys * len(sizes.blocks) * 10 == keys
    assert (sizes.vocabulary, sizes.hidden, sizes.number) == (512, 32, 4)
    assert sizes.parameters == made.parameters
    assert 0.95 * sum(sizes.blocks) < sizes.matrix_weights <= sum(sizes.blocks)
    assert (sizes.tokens, sizes.chunk) == (96, 4)


@pytest.mark.parametrize(("field", "factor"), [("samples", 2), ("length", 2), ("chunk", 4), ("active", 0.5)])
def test_a_calibration_pass_grows_with_its_data(field: str, factor: float) -> None:
    small = replace(SIZES, chunk=2)
    large = replace(small, **{field: type(getattr(small, field))(getattr(small, field) * factor)})
    a, b = (parts.calibration_pass(s, gram=True) for s in (small, large))
    if field == "active":
        assert b.work.seconds(RATES) < a.work.seconds(RATES)
    elif field == "chunk":  # all at once: more memory, and the products are not computed twice
        assert b.memory > a.memory
        assert b.work.seconds(RATES) < a.work.seconds(RATES)
    else:
        assert b.memory > a.memory
        assert b.work.seconds(RATES) > a.work.seconds(RATES)
        assert sum(b.work.products.values()) >= 2 * sum(a.work.products.values())


def test_statistics_cost_memory_and_time() -> None:
    with_gram, without = (parts.calibration_pass(SIZES, gram=gram) for gram in (True, False))
    assert with_gram.memory > without.memory
    assert with_gram.work.products["float32"] == 2 * (2 * 128 * (32**2 + 32**2 + 64**2)) * parts.GRAM


@pytest.mark.parametrize("criterion", CRITERIA.names())
def test_every_criterion_has_a_cost_that_grows_with_the_matrices(criterion: str) -> None:
    options = PruneOptions(use="prune", criterion=criterion)
    solver = CRITERIA.load(criterion).CRITERION.solve is not None
    wide = replace(SIZES, groups=tuple(tuple((o, 4 * i) for o, i in group) for group in SIZES.groups))
    a, b = (parts.solved(s, options, solver) for s in (SIZES, wide))
    assert 0 < a.memory < b.memory
    ratio = b.work.seconds(RATES) / a.work.seconds(RATES)
    assert ratio == pytest.approx(4) if not solver else 4 < ratio < 64


def test_more_iterations_take_longer() -> None:
    few, many = (PruneOptions(use="prune", criterion="admm", iterations=n) for n in (10, 100))
    seconds = [parts.solved(SIZES, options, True).work.seconds(RATES) for options in (few, many)]
    assert seconds[1] > 2 * seconds[0]


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (lambda: parts.text(SIZES, 4, 16), lambda: parts.text(SIZES, 8, 32)),
        (lambda: parts.rows(SIZES, 100, 10), lambda: parts.rows(SIZES, 300, 30)),
        (lambda: parts.rows(SIZES, 100, 10), lambda: parts.rows(SIZES, 100, 10, prefix=50)),
        (lambda: parts.speed(SIZES), lambda: parts.speed(replace(SIZES, parameters=10**8, widest=128))),
    ],
)
def test_evaluation_grows_with_its_text(small: Callable[[], Needs], large: Callable[[], Needs]) -> None:
    assert large().memory > small().memory > 0
    assert large().work.seconds(RATES) > small().work.seconds(RATES) > 0


def test_logits_of_a_window_are_counted() -> None:
    assert parts.text(replace(SIZES, vocabulary=10**6), 1, 16).memory > 2 * 16 * 10**6 * 4


def test_a_smaller_model_is_smaller() -> None:
    half = SIZES.smaller(0.5)
    assert half.parameters == SIZES.parameters - 4000
    assert half.matrix_weights == SIZES.matrix_weights / 2


def test_a_streamed_model_holds_its_largest_block_and_the_rest() -> None:
    uneven = replace(SIZES, blocks=(4000, 5000), dtype="bfloat16")
    assert uneven.loaded == 2 * 10_000
    assert replace(uneven, streamed=True).loaded == 2 * (5000 + 1000)


def test_states_wait_in_memory_or_on_disk() -> None:
    chunked = replace(SIZES, chunk=2, length=2000)
    here, there = (parts.calibration_pass(replace(chunked, spilled=spilled), gram=True) for spilled in (False, True))
    states = 8 * 2000 * 32 * 4
    assert (here.memory - there.memory, here.scratch, there.scratch) == (states, 0, states)


def test_all_windows_wait_where_every_block_is_read_once() -> None:
    one, all_of_them = (parts.text(replace(SIZES, streamed=streamed), 10, 16).memory for streamed in (False, True))
    assert all_of_them == one + 10 * 16 * 32 * 4
